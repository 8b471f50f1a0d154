//! `(?i)`: what else letters and classes stand for. The `regex` crate's own tables for this are 120 KB; the standard library
//! knows the case of every letter already, and all but a few fold as it says.

use regex_syntax::Parser;
use regex_syntax::hir::{Class, HirKind};
use std::sync::LazyLock;

/// No character from here on has a case.
const END: char = '\u{20000}';

/// Characters that fold alike stand side by side, with what they fold to; who folds alone is left out.
static ALIKE: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    // Both in one number, for which there is a sort already.
    let mut all: Vec<i64> =
        ('\0'..END).map(|c| i64::from(u32::from(folded(c))) << 32 | i64::from(u32::from(c))).collect();
    all.sort_unstable();
    let more = all.chunk_by(|a, b| a >> 32 == b >> 32).filter(|same| same.len() > 1);
    let back = |v: i64| char::from_u32(v as u32).unwrap_or('\0');
    more.flatten().map(|&v| (back(v >> 32), back(v))).collect()
});

/// One character for all that differ in case alone (Unicode's simple case folding, but that some fold to their capital).
fn folded(c: char) -> char {
    match c {
        // Dotless i and I with a dot are letters of their own.
        'ı' | 'İ' => c,
        // Their capitals are several characters.
        '\u{1FD3}' => '\u{390}',
        '\u{1FE3}' => '\u{3B0}',
        '\u{FB05}' => '\u{FB06}',
        _ => {
            let upper = only(c.to_uppercase()).unwrap_or(c);
            only(upper.to_lowercase()).unwrap_or(upper)
        }
    }
}

fn only(mut all: impl Iterator<Item = char>) -> Option<char> {
    let first = all.next();
    first.filter(|_| all.next().is_none())
}

/// All that a letter stands for, itself among it; nothing if it has no case.
pub fn of_letter(c: char) -> impl Iterator<Item = char> {
    let key = folded(c);
    let from = ALIKE.partition_point(|(k, _)| *k < key);
    ALIKE[from..].iter().take_while(move |(k, _)| *k == key).map(|(_, c)| *c)
}

/// What the inside of a class lacks to hold all that its members stand for. What is no class gives nothing: the engine
/// refuses it.
pub fn missing_in(inside: &str) -> Vec<char> {
    let Ok(class) = Parser::new().parse(&format!("[{inside}]")) else { return vec![] };
    let ranges: Vec<(char, char)> = match class.into_kind() {
        HirKind::Class(Class::Unicode(class)) => class.iter().map(|r| (r.start(), r.end())).collect(),
        // A class of one.
        HirKind::Literal(text) => str::from_utf8(&text.0).unwrap_or("").chars().map(|c| (c, c)).collect(),
        _ => vec![],
    };
    let holds = |c: char| {
        let after = ranges.partition_point(|(start, _)| *start <= c);
        after > 0 && c <= ranges[after - 1].1
    };
    let sets = ALIKE.chunk_by(|a, b| a.0 == b.0).filter(|same| same.iter().any(|(_, c)| holds(*c)));
    sets.flatten().map(|(_, c)| *c).filter(|c| !holds(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_fold_as_unicode_says() {
        for same in [
            "aA",
            "kK\u{212A}",
            "sSſ",
            "ßẞ",
            "σςΣ",
            "µμΜ",
            "θϑϴΘ",
            "åÅ\u{212B}",
            "ǆǅǄ",
            "\u{390}\u{1FD3}",
            "ﬅﬆ",
            "ᾀᾈ",
            "ꭰᎠ",
        ] {
            let mut want: Vec<char> = same.chars().collect();
            want.sort_unstable();
            for c in same.chars() {
                assert_eq!(of_letter(c).collect::<Vec<_>>(), want, "{c}");
            }
        }
        for alone in "ıİ1_ŉ字".chars() {
            assert_eq!(of_letter(alone).count(), 0, "{alone}");
        }
        assert!((END..=char::MAX).all(|c| folded(c) == c));
    }

    #[test]
    fn classes_get_what_they_lack() {
        assert_eq!(missing_in("a-cB"), ['A', 'C']);
        assert_eq!(missing_in("k"), ['K', '\u{212A}']);
        assert_eq!(missing_in("0-9"), []);
        assert_eq!(missing_in("b-a"), []);
    }
}
