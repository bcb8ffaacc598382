# What a developer runs. Each target is a task of the crate `xtask`: `cargo xtask --help` lists more of them.

.PHONY: help demo test lint bench fuzz

help:
	@echo 'make demo    install what is missing, build, and run commands in microVMs of an image made here'
	@echo 'make test    install what the tests need, and run all of them'
	@echo 'make lint    check format, lints, documentation, licences and dependencies'
	@echo 'make bench   print the figures, against peers and goals'
	@echo 'make fuzz    run each fuzz target for a minute (needs nightly Rust)'

demo test lint bench fuzz:
	@command -v cargo > /dev/null || { echo 'Rust is missing: install it with rustup' >&2; exit 1; }
	@command -v cc > /dev/null || { echo 'Rust needs a C linker: apt-get install gcc libc6-dev' >&2; exit 1; }
	cargo xtask $@
