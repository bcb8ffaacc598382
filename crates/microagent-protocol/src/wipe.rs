//! Leaving nothing behind of bytes that somebody may look for later.

/// Overwrites bytes with zeros, also where the compiler sees that nobody reads them again.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Whatever it is taken to do with them, the zeros have to be there.
    std::hint::black_box(bytes);
}

/// Overwrites a vector, and what it held before it became shorter.
pub fn wipe_vec(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(bytes.capacity(), 0);
    std::hint::black_box(&mut bytes[..]);
    bytes.clear();
}
