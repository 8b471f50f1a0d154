//! A fingerprint of content, to find what was built of it before. It tells apart what differs by chance; it does not defend
//! against somebody who makes two contents alike on purpose.

/// Odd numbers without pattern.
const KEYS: [u64; 4] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9];

/// A fingerprint in the making: 128 bits, from products whose halves are folded together.
#[derive(Clone)]
pub(super) struct Digest {
    lanes: [u64; 2],
    pending: [u8; 16],
    filled: usize,
    len: u64,
}

impl Digest {
    pub fn new() -> Digest {
        Digest { lanes: [KEYS[0], KEYS[1]], pending: [0; 16], filled: 0, len: 0 }
    }

    /// Adds bytes; how they are cut into calls makes no difference.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if self.filled > 0 {
            let take = bytes.len().min(16 - self.filled);
            self.pending[self.filled..self.filled + take].copy_from_slice(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
            if self.filled < 16 {
                return;
            }
            let block = self.pending;
            self.block(&block);
            self.filled = 0;
        }
        let mut blocks = bytes.chunks_exact(16);
        for block in &mut blocks {
            self.block(block);
        }
        let rest = blocks.remainder();
        self.pending[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Adds text with its length, so that two texts are not one.
    pub fn text(&mut self, text: &str) {
        self.update(&(text.len() as u64).to_le_bytes());
        self.update(text.as_bytes());
    }

    fn block(&mut self, block: &[u8]) {
        let half = |at: usize| block.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let (x, y) = (half(0), half(8));
        let [a, b] = self.lanes;
        // What a product with zero would lose is kept by the sum.
        self.lanes = [
            fold(a ^ x, y ^ KEYS[2]).wrapping_add(a.rotate_left(29)),
            fold(b ^ y, x ^ KEYS[3]).wrapping_add(b.rotate_left(41)) ^ a,
        ];
    }

    /// The fingerprint in hexadecimal digits.
    pub fn finish(mut self) -> String {
        let len = self.len;
        self.pending[self.filled..].fill(0);
        let last = self.pending;
        self.block(&last);
        let mut end = [0; 16];
        end[..8].copy_from_slice(&len.to_le_bytes());
        self.block(&end);
        self.block(&end);
        format!("{:016x}{:016x}", self.lanes[0], self.lanes[1])
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> String {
        let mut digest = Digest::new();
        parts.iter().for_each(|p| digest.update(p));
        digest.finish()
    }

    #[test]
    fn only_the_content_counts() {
        let whole: Vec<u8> = (0..100).collect();
        for cut in [0, 1, 15, 16, 17, 50, 99] {
            assert_eq!(of(&[&whole]), of(&[&whole[..cut], &whole[cut..]]), "{cut}");
        }
        assert_eq!(of(&[b""]).len(), 32);
    }

    #[test]
    fn every_bit_and_the_length_count() {
        let mut seen = crate::hash::HashSet::default();
        for len in 0..70 {
            assert!(seen.insert(of(&[&vec![0; len]])), "{len} zeros");
        }
        let mut bytes = vec![0x5A; 64];
        for bit in 0..512 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(of(&[&bytes])), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
