"""LiteRT.js, the runtime of browsers, in Node and in a browser without a window."""
