"""Files in WebAssembly: run, compared and timed in Node or a browser.

A server on 127.0.0.1 hands out orders, which the same JavaScript fetches and answers in
Node and in a page. So neither a browser's own protocol nor a package for it is needed.
Only the command, and `file_verification`, which lists runtimes, know this room. See
docs/measurement.md.
"""
