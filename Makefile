.PHONY: test
test:
	cargo test --workspace --lib --bins
