"""Files in WebAssembly: run, compared and timed in Node or a browser."""
