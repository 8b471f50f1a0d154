//! NumPy's .npz archives: a zip file with one .npy file for each array.

use crate::npy;
use mezzo::backend::TensorValue;
use mezzo::{Result, bail, err};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Reads all arrays, with their names, in the archive's order.
pub fn read(path: &Path) -> Result<Vec<(String, TensorValue)>> {
    let file = File::open(path).map_err(|e| mezzo::Error::io(format!("cannot open '{}'", path.display()), &e))?;
    let damaged = |e: zip::result::ZipError| {
        err!(
            InvalidFile,
            "'{}' is no .npz archive that can be read: {e}. Save it again with numpy.savez",
            path.display()
        )
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut arrays = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(damaged)?;
        let full = entry.name().map_err(damaged)?.into_owned();
        let Some(name) = full.strip_suffix(".npy").map(str::to_string) else {
            bail!(InvalidFile, "'{}' holds '{full}', which is no .npy file: save it with numpy.savez", path.display());
        };
        let at = |e: mezzo::Error| e.context(format_args!("'{name}' in '{}'", path.display()));
        let mut bytes = Vec::new();
        let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
        if bytes.try_reserve_exact(size).is_err() {
            return Err(at(err!(OutOfMemory, "{size} bytes cannot be had")));
        }
        // Never more than it says: a small archive must not fill the memory.
        let read = entry.by_ref().take(size as u64).read_to_end(&mut bytes);
        read.map_err(|e| at(mezzo::Error::io("cannot unpack it", &e)))?;
        arrays.push((name.clone(), npy::parse(&bytes).map_err(at)?));
    }
    Ok(arrays)
}
