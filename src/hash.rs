//! Hash maps and sets whose hashing is compiled once. The standard library's are keyed alike, against names that are chosen
//! to collide, but write SipHash out at many places that look something up or let a map grow: some 30 KB.

use std::collections;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

/// The standard library's map, by [`Keys`].
pub type HashMap<K, V> = collections::HashMap<K, V, Keys>;
/// The standard library's set, by [`Keys`].
pub type HashSet<K> = collections::HashSet<K, Keys>;

/// The random keys of a map.
#[derive(Clone)]
pub struct Keys(RandomState);

/// The standard library's hasher, called instead of written out.
pub struct Called(DefaultHasher);

impl Default for Keys {
    #[inline(never)]
    fn default() -> Keys {
        Keys(RandomState::new())
    }
}

impl BuildHasher for Keys {
    type Hasher = Called;
    #[inline(never)]
    fn build_hasher(&self) -> Called {
        Called(self.0.build_hasher())
    }
}

impl Hasher for Called {
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
    #[inline(never)]
    fn write_u8(&mut self, v: u8) {
        self.0.write_u8(v);
    }
    #[inline(never)]
    fn write_usize(&mut self, v: usize) {
        self.0.write_usize(v);
    }
    #[inline(never)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
