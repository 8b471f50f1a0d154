//! The header of a .npy file: a Python dictionary of three keys, read without evaluating anything.

use mezzo::{Error, Result, bail, err};

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The element type in NumPy's words, "<f4".
    pub descr: String,
    /// The first dimension runs fastest.
    pub fortran_order: bool,
    /// The shape.
    pub dims: Vec<usize>,
}

/// NumPy has at most 64 dimensions.
const MAX_RANK: usize = 64;

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, its keys in any order.
pub fn parse(text: &[u8]) -> Result<Header> {
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let mut reader = Reader { rest: text };
    let (mut descr, mut fortran_order, mut dims) = (None, None, None);
    reader.expect('{')?;
    while !reader.take('}') {
        let key = reader.string()?;
        reader.expect(':')?;
        let new = match key {
            "descr" => descr.replace(reader.descr()?.to_string()).is_none(),
            "fortran_order" => fortran_order.replace(reader.bool()?).is_none(),
            "shape" => dims.replace(reader.tuple()?).is_none(),
            _ => return Err(damaged("it has a key that is none of descr, fortran_order and shape")),
        };
        if !new {
            return Err(damaged("it has a key twice"));
        }
        if !reader.take(',') {
            reader.expect('}')?;
            break;
        }
    }
    if !reader.rest.trim().is_empty() {
        return Err(damaged("it goes on after its end"));
    }
    match (descr, fortran_order, dims) {
        (Some(descr), Some(fortran_order), Some(dims)) => Ok(Header { descr, fortran_order, dims }),
        _ => Err(damaged("it lacks one of descr, fortran_order and shape")),
    }
}

fn damaged(why: &str) -> Error {
    err!(InvalidFile, "the .npy file's header is damaged ({why}): save it again with numpy.save")
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(damaged(&format!("a '{wanted}' is missing"))) }
    }

    /// A string in either kind of quotes; no string of a header has escapes.
    fn string(&mut self) -> Result<&'a str> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.ok_or_else(|| damaged("a string is missing"))?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or_else(|| damaged("a string does not end"))?;
        self.rest = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<&'a str> {
        if self.take('[') {
            bail!(Unsupported, "the .npy file holds records of several fields: save each field as an array of its own");
        }
        self.string()
    }

    fn bool(&mut self) -> Result<bool> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(damaged("fortran_order is neither True nor False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>> {
        let mut dims = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            if dims.len() == MAX_RANK {
                return Err(damaged("it has more than 64 dimensions"));
            }
            dims.push(self.number()?);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(dims)
    }

    fn number(&mut self) -> Result<usize> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        // Python 2 wrote long integers with an L.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        digits.parse().map_err(|_| damaged("a dimension is not a number that fits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_however_they_are_written() {
        let want = |dims: &[usize], fortran_order| Header { descr: "<f4".into(), fortran_order, dims: dims.into() };
        for (text, header) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", want(&[2, 3], false)),
            ("{\"shape\":(7L,),\"fortran_order\":True,\"descr\":\"<f4\"}", want(&[7], true)),
            (" { 'descr' : '<f4' , 'fortran_order' : True , 'shape' : ( ) } ", want(&[], true)),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), header, "{text}");
        }
    }

    #[test]
    fn other_headers_are_refused() {
        for (text, word) in [
            ("", "'{'"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "fields"),
            ("{'descr': '<f4', 'shape': (1,), }", "lacks"),
            ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "twice"),
            ("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }", "True"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "number"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "number"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }", "')'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x", "after"),
            ("{'descr: <f4", "end"),
            ("{'other': 1}", "key"),
        ] {
            let e = parse(text.as_bytes()).expect_err(text);
            assert!(e.message().contains(word), "'{word}' is not in: {e}");
        }
        let deep = format!("{{'shape': ({}), }}", "1, ".repeat(65));
        assert!(parse(deep.as_bytes()).unwrap_err().message().contains("64"));
    }
}
