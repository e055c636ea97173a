"""Files on ARM: run, compared and counted in an emulator, on a Linux PC.

QEMU runs a Python for ARM with the wheel of LiteRT for ARM, which is what phones and
boards with Linux run. So outputs are those of ARM's kernels; times would be QEMU's, and
what is counted is instructions. Versions and digests of all that is fetched stand in
`packages.json`. Only the command, and `file_verification`, which lists runtimes, know
this room. See docs/measurement.md.
"""
