"""Answers of the package on an emulated ARM64 processor, compared with those of this machine: see `.ci/arm64`."""
