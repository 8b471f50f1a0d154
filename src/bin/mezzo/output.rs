//! What the command says: results on stdout, notes and the one line of error on stderr.

use crate::progress;
use mezzo::{Error, Result};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Prints a result. A reader that has closed the pipe (`mezzo ... | head`) has seen enough: that is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io("cannot write to standard output", &e)),
        _ => Ok(()),
    }
}

/// Prints a JSON value, indented.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}"))
}

/// A note beside the result.
pub fn note(text: &str) {
    // A closed stderr has no one to tell.
    progress::beside(|| drop(writeln!(io::stderr(), "note: {}", printable(text))));
}

/// The one line of a failure.
pub fn error(message: &str) {
    let _ = writeln!(io::stderr(), "error: {}", printable(message));
}

/// The text on one line, safe for a terminal.
pub fn printable(text: &str) -> String {
    text.lines().map(|l| escaped(l.trim())).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Text of several lines, each safe for a terminal.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

/// Control characters steer a terminal, and names come out of files from anywhere.
fn escaped(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// Rows in aligned columns, each line indented by two spaces. Columns named in `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(c, (cell, &w))| if right.contains(&c) { format!("{cell:>w$}") } else { format!("{cell:<w$}") });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A byte count for people: exact, and in a larger unit where that helps.
pub fn bytes(n: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", n as f64 / *size as f64),
        None => format!("{n} bytes"),
    }
}

/// A number in the digits that tell: four, in plain notation where that is short.
pub fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let digits = (3 - a.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{x:.digits$}")
        }
        _ => format!("{x:.3e}"),
    }
}

/// "[1,10]".
pub fn shape(dims: &[usize]) -> String {
    format!("[{}]", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
}

/// True when both paths lead to one file, which need not exist yet.
pub fn same_file(a: &Path, b: &Path) -> bool {
    a == b || place(a).is_some_and(|a| place(b).is_some_and(|b| a == b))
}

/// Where a file is or will be: its own path without links, or that of its folder and its name.
fn place(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok().or_else(|| {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?))
    })
}

/// "1 node", "2 nodes".
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_two_paths_is_the_same_before_it_exists() {
        assert!(same_file(Path::new("none.onnx"), Path::new("./none.onnx")));
        assert!(same_file(Path::new("src/../none.onnx"), Path::new("none.onnx")));
        assert!(same_file(Path::new("src/lib.rs"), Path::new("./src/lib.rs")));
        assert!(!same_file(Path::new("none.onnx"), Path::new("src/none.onnx")));
    }

    #[test]
    fn errors_are_one_line_that_steers_no_terminal() {
        assert_eq!(printable("a\n  b\u{1b}[31m\n\nc"), "a b\\u{1b}[31m c");
        assert_eq!(printable_lines("a\n  b\u{1b}\n"), "a\n  b\\u{1b}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "5".into(), "x".into()]];
        assert_eq!(table(&rows, &[1]), "  a     10\n  long   5  x");
    }

    #[test]
    fn numbers_have_four_digits() {
        let texts = [0.0, 1.0, -12.34567, 0.00123456, 65504.0, 1.5e-7, 1e9, f64::INFINITY].map(number);
        assert_eq!(texts, ["0", "1.000", "-12.35", "0.001235", "65504", "1.500e-7", "1.000e9", "inf"]);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(
            (bytes(1023), bytes(1536), bytes(3 << 30)),
            ("1023 bytes".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
    }
}
