//! Where the libraries are looked for.

use super::version::Flavour;
use crate::sort::sort_by;
use std::path::{Path, PathBuf};

/// The environment variable with files or folders, separated as in PATH.
pub const VARIABLE: &str = "MEZZO_TENSORRT_PATH";

/// Where to look, in this order, then the system's own search.
#[derive(Debug, Clone, Default)]
pub struct SearchPaths {
    /// The one file or folder the user names; where it is given, nothing else is tried.
    pub explicit: Option<PathBuf>,
    /// Files or folders from the environment variable.
    pub variable: Vec<PathBuf>,
    /// Files or folders from the options of the environment object.
    pub paths: Vec<PathBuf>,
}

impl SearchPaths {
    /// The given places and those of [`VARIABLE`].
    pub fn new(explicit: Option<PathBuf>, paths: &[PathBuf]) -> SearchPaths {
        let variable = std::env::var_os(VARIABLE).map_or_else(Vec::new, |v| std::env::split_paths(&v).collect());
        let variable = variable.into_iter().filter(|p: &PathBuf| !p.as_os_str().is_empty()).collect();
        SearchPaths { explicit, variable, paths: paths.to_vec() }
    }

    /// What to try, each with where it came from; places without such a library come back as reasons.
    pub fn candidates(&self, flavour: Flavour) -> (Vec<PathBuf>, Vec<String>) {
        let (mut found, mut reasons) = (Vec::new(), Vec::new());
        let mut look = |place: &Path, from: &str| match libraries_at(place, flavour.library()) {
            Ok(files) => found.extend(files),
            Err(reason) => reasons.push(format!("{} ({from}): {reason}", place.display())),
        };
        if let Some(place) = &self.explicit {
            look(place, "given path");
            return (found, reasons);
        }
        self.variable.iter().for_each(|p| look(p, VARIABLE));
        self.paths.iter().for_each(|p| look(p, "library paths"));
        if self.variable.is_empty() {
            reasons.push(format!("{VARIABLE} is not set"));
        }
        found.extend(flavour.system_names().iter().map(PathBuf::from));
        (found, reasons)
    }
}

impl Flavour {
    /// What the main library's file name begins with.
    pub fn library(self) -> &'static str {
        match self {
            Flavour::TensorRt => "libnvinfer.so",
            Flavour::Rtx => "libtensorrt_rtx.so",
        }
    }

    /// What the ONNX parser's file name begins with.
    pub fn parser_library(self) -> &'static str {
        match self {
            Flavour::TensorRt => "libnvonnxparser.so",
            Flavour::Rtx => "libtensorrt_onnxparser_rtx.so",
        }
    }

    /// Names for the system's linker, newest first.
    fn system_names(self) -> &'static [&'static str] {
        match self {
            Flavour::TensorRt => &["libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so"],
            Flavour::Rtx => &["libtensorrt_rtx.so.1", "libtensorrt_rtx.so"],
        }
    }
}

/// The file itself, or the files of a folder that begin with `stem`, the highest version first.
pub fn libraries_at(place: &Path, stem: &str) -> Result<Vec<PathBuf>, String> {
    let kind = std::fs::metadata(place).map_err(|e| e.to_string())?;
    if kind.is_file() {
        return Ok(vec![place.to_path_buf()]);
    }
    let entries = std::fs::read_dir(place).map_err(|e| e.to_string())?;
    let mut files: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((file_version(&path, stem)?, path))
        })
        .collect();
    sort_by(&mut files, |a, b| b.cmp(a));
    // Links to the same file are one candidate.
    let mut seen = Vec::new();
    files.retain(|(_, path)| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    if files.is_empty() {
        return Err(format!("the folder has no {stem}*"));
    }
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The numbers behind `stem` in a file's name: "libnvinfer.so.8.5.3" has 8, 5, 3. None if the name is another.
pub fn file_version(path: &Path, stem: &str) -> Option<Vec<u32>> {
    let rest = path.file_name()?.to_str()?.strip_prefix(stem)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    rest.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mezzo-search-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|f| std::fs::write(dir.join(f), f).unwrap());
        dir
    }

    #[test]
    fn a_folder_gives_its_libraries_newest_first() {
        let dir = folder(
            "order",
            &["libnvinfer.so.8", "libnvinfer.so.10.9.0", "libnvinfer.so.10.16.1", "libnvinfer_plugin.so.10", "x.so"],
        );
        let found = libraries_at(&dir, "libnvinfer.so").unwrap();
        let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["libnvinfer.so.10.16.1", "libnvinfer.so.10.9.0", "libnvinfer.so.8"]);
        assert!(libraries_at(&dir, "libtensorrt_rtx.so").unwrap_err().contains("libtensorrt_rtx.so"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn links_to_one_file_are_one_candidate() {
        let dir = folder("links", &["libnvinfer.so.8.5.3"]);
        std::os::unix::fs::symlink("libnvinfer.so.8.5.3", dir.join("libnvinfer.so.8")).unwrap();
        std::os::unix::fs::symlink("libnvinfer.so.8", dir.join("libnvinfer.so")).unwrap();
        assert_eq!(libraries_at(&dir, "libnvinfer.so").unwrap(), [dir.join("libnvinfer.so.8.5.3")]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_given_path_is_the_only_candidate() {
        let dir = folder("given", &["libtensorrt_rtx.so.1"]);
        let mut search = SearchPaths { explicit: Some(dir.join("missing")), ..SearchPaths::default() };
        let (found, reasons) = search.candidates(Flavour::Rtx);
        assert!(found.is_empty() && reasons.len() == 1 && reasons[0].contains("missing"), "{reasons:?}");
        search.explicit = Some(dir.clone());
        assert_eq!(search.candidates(Flavour::Rtx).0, [dir.join("libtensorrt_rtx.so.1")]);
        search.explicit = None;
        search.variable = vec![dir.clone()];
        let (found, _) = search.candidates(Flavour::Rtx);
        assert_eq!(found[0], dir.join("libtensorrt_rtx.so.1"));
        assert_eq!(found[1], Path::new("libtensorrt_rtx.so.1"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn versions_are_read_from_file_names() {
        let of = |name: &str| file_version(Path::new(name), "libnvinfer.so");
        assert_eq!(of("/a/libnvinfer.so"), Some(vec![]));
        assert_eq!(of("libnvinfer.so.8.5.3"), Some(vec![8, 5, 3]));
        assert_eq!(of("libnvinfer.so.x"), None);
        assert_eq!(of("libnvinfer.source"), None);
    }
}
