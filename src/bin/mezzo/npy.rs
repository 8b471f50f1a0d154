//! NumPy's .npy files, versions 1.0 to 3.0: one dense little-endian tensor of numbers or bools.
//! (Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.)

use crate::npy_header::{self, Header};
use mezzo::backend::{TensorValue, byte_size};
use mezzo::model::DataType;
use mezzo::sys::{atomic_file::AtomicFile, map};
use mezzo::{Result, bail, err};
use std::borrow::Cow;
use std::path::Path;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The data begins at a multiple of this, as NumPy writes it.
const ALIGN: usize = 64;

/// The element types both sides have, with NumPy's name. (bfloat16 has none.)
const TYPES: [(DataType, &str); 14] = [
    (DataType::Float16, "<f2"),
    (DataType::Float32, "<f4"),
    (DataType::Float64, "<f8"),
    (DataType::Int8, "|i1"),
    (DataType::Int16, "<i2"),
    (DataType::Int32, "<i4"),
    (DataType::Int64, "<i8"),
    (DataType::Uint8, "|u1"),
    (DataType::Uint16, "<u2"),
    (DataType::Uint32, "<u4"),
    (DataType::Uint64, "<u8"),
    (DataType::Bool, "|b1"),
    (DataType::Complex64, "<c8"),
    (DataType::Complex128, "<c16"),
];

/// Reads a file.
pub fn read(path: &Path) -> Result<TensorValue> {
    let bytes = map::read(path, map::MAP_THRESHOLD)?;
    parse(&bytes).map_err(|e| e.context(format_args!("'{}'", path.display())))
}

/// NumPy's name of the type, if it has one.
pub fn type_name(dtype: DataType) -> Option<&'static str> {
    TYPES.iter().find(|(t, _)| *t == dtype).map(|(_, name)| *name)
}

/// Starts a file of that tensor; the caller commits it.
pub fn write(path: &Path, tensor: &TensorValue) -> Result<AtomicFile> {
    let mut file = AtomicFile::create(path)?;
    file.write(&header(tensor.dtype(), tensor.dims())?)?;
    tensor.with_bytes(|bytes| file.write(bytes))??;
    Ok(file)
}

/// Reads a file's bytes.
pub fn parse(bytes: &[u8]) -> Result<TensorValue> {
    let truncated = || err!(InvalidFile, "the .npy file ends within its header: save it again with numpy.save");
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        bail!(
            InvalidFile,
            "not a .npy file: save the array with numpy.save (an .npz archive goes to mezzo convert --samples)"
        );
    };
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
    let (len, rest) = match version {
        [1, 0] => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        [2 | 3, 0] => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        [major, minor] => {
            bail!(Unsupported, ".npy version {major}.{minor} is not known: save it as version 1.0 to 3.0")
        }
    }
    .ok_or_else(truncated)?;
    let (text, data) = rest.split_at_checked(len).ok_or_else(truncated)?;
    let Header { descr, fortran_order, dims } = npy_header::parse(text)?;
    let dtype = element_type(&descr)?;
    let need = byte_size(dtype, &dims)?;
    if data.len() != need {
        bail!(
            InvalidFile,
            "the .npy file says {descr} {dims:?}, {need} bytes, but holds {}: save it again with numpy.save",
            data.len()
        );
    }
    let size = dtype.element_size().ok_or_else(|| err!(Internal, "{dtype} has no whole bytes"))?;
    let mut data = Cow::Borrowed(data);
    if fortran_order && dims.len() > 1 {
        data = Cow::Owned(transpose(&data, &dims, size)?);
    }
    if dtype == DataType::Bool && data.iter().any(|b| *b > 1) {
        data = Cow::Owned(data.iter().map(|b| u8::from(*b != 0)).collect());
    }
    TensorValue::copy_of(dtype, dims, &data)
}

fn element_type(descr: &str) -> Result<DataType> {
    // "=" is the machine's own order, which is little-endian wherever Mezzo builds; one byte has no order.
    let (order, kind) = descr.split_at_checked(1).unwrap_or((descr, ""));
    let same = |name: &str| name[1..] == *kind && (matches!(order, "<" | "=" | "|") || name.starts_with('|'));
    if let Some((dtype, _)) = TYPES.iter().find(|(_, name)| same(name)) {
        return Ok(*dtype);
    }
    if order == ">" && TYPES.iter().any(|(_, name)| name[1..] == *kind) {
        bail!(Unsupported, "the .npy file holds big-endian '{descr}': save the array as '<{kind}'");
    }
    bail!(
        Unsupported,
        "the .npy file holds '{descr}': floats, integers, bools and complex numbers are read; convert the array before \
         it is saved"
    )
}

/// Elements from Fortran's order (the first dimension runs fastest) to C's (the last one does).
fn transpose(data: &[u8], dims: &[usize], size: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let failed = |_| err!(OutOfMemory, "{} bytes for the .npy file's elements in C order cannot be had", data.len());
    out.try_reserve_exact(data.len()).map_err(failed)?;
    let mut strides = Vec::with_capacity(dims.len());
    dims.iter().fold(size, |stride, d| {
        strides.push(stride);
        stride.saturating_mul(*d)
    });
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    while out.len() < data.len() {
        let element = data.get(at..at + size).ok_or_else(|| err!(Internal, "an index beyond a .npy file's data"))?;
        out.extend_from_slice(element);
        // The next index in C order: the last dimension first, carrying to the left.
        for ((i, d), stride) in index.iter_mut().zip(dims).zip(&strides).rev() {
            *i += 1;
            at += stride;
            if *i < *d {
                break;
            }
            at -= *d * stride;
            *i = 0;
        }
    }
    Ok(out)
}

/// All that stands before the data.
fn header(dtype: DataType, dims: &[usize]) -> Result<Vec<u8>> {
    let descr = type_name(dtype).ok_or_else(|| err!(Unsupported, "NumPy's .npy files have no type {dtype}"))?;
    let shape = match dims {
        [one] => format!("({one},)"),
        _ => format!("({})", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, version and a length of two bytes, or of four where the header is too long for them.
    let padded = |fixed: usize| (fixed + text.len() + 1).next_multiple_of(ALIGN) - fixed;
    let mut out = MAGIC.to_vec();
    match u16::try_from(padded(10)) {
        Ok(len) => {
            out.extend([1, 0]);
            out.extend(len.to_le_bytes());
        }
        Err(_) => {
            let len = u32::try_from(padded(12)).map_err(|_| err!(Internal, "a .npy header of 4 GB"))?;
            out.extend([2, 0]);
            out.extend(len.to_le_bytes());
        }
    }
    out.extend(text.as_bytes());
    out.resize((out.len() + 1).next_multiple_of(ALIGN) - 1, b' ');
    out.push(b'\n');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as NumPy 2 writes it: the header is filled with spaces up to 128 bytes.
    fn numpy(version: u8, dict: &str, data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([version, 0]);
        let len: usize = if version == 1 { 118 } else { 116 };
        out.extend_from_slice(&(len as u32).to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
        out.extend(dict.as_bytes());
        out.resize(127, b' ');
        out.push(b'\n');
        out.extend(data);
        out
    }

    fn read_numbers(bytes: &[u8]) -> (DataType, Vec<usize>, Vec<f64>) {
        let t = parse(bytes).unwrap();
        (t.dtype(), t.dims().to_vec(), t.to_f64().unwrap())
    }

    #[test]
    fn files_of_numpy_are_read() {
        let floats: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let f = numpy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &floats);
        assert_eq!(read_numbers(&f), (DataType::Float32, vec![2, 3], vec![0., 1., 2., 3., 4., 5.]));
        let f = numpy(2, "{'descr': '<i8', 'fortran_order': False, 'shape': (), }", &3i64.to_le_bytes());
        assert_eq!(read_numbers(&f), (DataType::Int64, vec![], vec![3.0]));
        let f = numpy(3, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", &[7, 0]);
        assert_eq!(read_numbers(&f), (DataType::Bool, vec![2], vec![1.0, 0.0]));
        let f = numpy(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (0, 4), }", &[]);
        assert_eq!(read_numbers(&f), (DataType::Float16, vec![0, 4], vec![]));
    }

    #[test]
    fn fortran_order_is_transposed() {
        // numpy.asfortranarray of [[0, 1, 2], [3, 4, 5]], as int16.
        let data = [0u8, 0, 3, 0, 1, 0, 4, 0, 2, 0, 5, 0];
        let f = numpy(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }", &data);
        assert_eq!(read_numbers(&f), (DataType::Int16, vec![2, 3], vec![0., 1., 2., 3., 4., 5.]));
        let data: Vec<u8> = vec![0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21, 2, 14, 6, 18, 10, 22, 3, 15, 7, 19, 11, 23];
        let f = numpy(1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", &data);
        assert_eq!(read_numbers(&f).2, (0..24).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (dtype, _) in TYPES {
            for dims in [vec![], vec![3], vec![2, 0], vec![2, 3, 5]] {
                let count: usize = dims.iter().product();
                let size = dtype.element_size().unwrap();
                let data: Vec<u8> = (0..count * size).map(|i| (i % 2) as u8).collect();
                let mut file = header(dtype, &dims).unwrap();
                assert!(file.len().is_multiple_of(ALIGN) && file.ends_with(b"\n"));
                file.extend(&data);
                let t = parse(&file).unwrap();
                assert_eq!((t.dtype(), t.dims(), t.to_bytes().unwrap()), (dtype, &dims[..], data));
            }
        }
        let long = header(DataType::Uint8, &vec![1; 30_000]).unwrap();
        assert_eq!(long[6], 2, "a long header takes version 2.0");
        assert!(header(DataType::Bfloat16, &[1]).is_err());
    }

    #[test]
    fn refusals_say_why() {
        let refused = |bytes: &[u8], word: &str| {
            let e = parse(bytes).expect_err(word);
            assert!(e.message().contains(word), "'{word}' is not in: {e}");
        };
        refused(b"", "numpy.save");
        refused(b"PK\x03\x04", ".npz");
        refused(b"\x93NUMPY\x04\x00", "4.0");
        refused(&numpy(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", &[0; 4]), "'<f4'");
        refused(&numpy(1, "{'descr': '<U2', 'fortran_order': False, 'shape': (1,), }", &[0; 8]), "'<U2'");
        refused(&numpy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 4]), "8 bytes");
        refused(&numpy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", &[0; 5]), "holds 5");
        refused(
            &numpy(1, "{'descr': '<f8', 'fortran_order': True, 'shape': (9999999999, 9999999999), }", &[]),
            "byte size",
        );
        // A header that claims 4 GB in a file of a few bytes.
        refused(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "ends within");
    }

    #[test]
    fn damage_never_panics() {
        let good = numpy(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }", &[0; 12]);
        for len in 0..good.len() {
            assert!(parse(&good[..len]).is_err(), "cut to {len}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut damaged = good.clone();
                damaged[at] ^= 1 << bit;
                let _ = parse(&damaged);
            }
        }
    }
}
