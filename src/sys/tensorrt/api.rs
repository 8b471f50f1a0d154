//! A loaded library: its version, its entry points, its slots.

use super::abi::Object;
use super::client;
use super::foreign;
use super::logger::{Line, Logger, LoggerPool};
use super::lookup::{self, Enumerator, Slots};
use super::search::{self, SearchPaths};
use super::tables::{METHODS, Method};
use super::version::{Family, Flavour, Version};
use super::{output_allocator, profiler, progress};
use crate::error::{Error, ErrorCode, ErrorDomain};
use crate::sys::dl::{self, Library};
use crate::{Result, bail, err};
use parking_lot::Mutex;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

/// Every library that was loaded. They stay loaded until the process ends.
static LOADED: Mutex<Vec<&'static Api>> = Mutex::new(Vec::new());

/// A factory: takes a logger or another object, and the version.
type Create = unsafe extern "C-unwind" fn(argument: *mut c_void, version: i32) -> *mut c_void;
/// A parser's factory.
type CreateParser = unsafe extern "C-unwind" fn(network: *mut c_void, logger: *mut c_void, version: i32) -> *mut c_void;
/// A version's number.
type GetVersion = unsafe extern "C" fn() -> i32;

/// A loaded TensorRT or TensorRT-RTX.
pub struct Api {
    version: Version,
    family: Family,
    path: PathBuf,
    library: Library,
    slots: Slots,
    loggers: LoggerPool,
    monitors: Option<client::Table>,
    output_allocators: client::Table,
    profilers: client::Table,
    parser: Mutex<Option<ParserEntry>>,
}

/// The entry points of the ONNX parser's library.
#[derive(Clone, Copy)]
pub(super) struct ParserEntry {
    pub create: CreateParser,
    pub version: i32,
}

impl Api {
    /// Loads the library of that flavour: the first place that has one of a supported version. The error lists every
    /// place that was tried and why it would not do.
    pub fn load(flavour: Flavour, search: &SearchPaths, allow_untested: bool) -> Result<&'static Api> {
        let (candidates, mut reasons) = search.candidates(flavour);
        let mut code = ErrorCode::NotFound;
        for candidate in candidates {
            match Api::open(flavour, &candidate, allow_untested) {
                Ok(api) => return Ok(api),
                Err(e) => {
                    if e.code() == ErrorCode::Version {
                        code = ErrorCode::Version;
                    }
                    reasons.push(format!("{}: {e}", candidate.display()));
                }
            }
        }
        Err(Error::new(
            code,
            format!(
                "cannot load {}. Tried: {}. Install it, or give its folder in the environment variable {}",
                flavour.product(),
                reasons.join("; "),
                search::VARIABLE
            ),
        ))
    }

    /// Loads one candidate.
    fn open(flavour: Flavour, path: &Path, allow_untested: bool) -> Result<&'static Api> {
        let library = Library::open(path).map_err(|reason| err!(NotFound, "{reason}"))?;
        let Some(entry) = library.symbol("getInferLibVersion") else {
            bail!(NotFound, "it has no getInferLibVersion, so it is not {}", flavour.product());
        };
        let path = dl::file_of(entry).filter(|p| p.is_absolute()).unwrap_or_else(|| path.to_path_buf());
        // SAFETY: an entry point of every TensorRT, without arguments.
        let native = unsafe { std::mem::transmute::<*mut c_void, GetVersion>(entry.as_ptr())() };
        let version = Version::from_native(native)?;
        if version.flavour() != flavour {
            bail!(NotFound, "it is {version}, not {}", flavour.product());
        }
        let (family, _) = version.family(allow_untested)?;
        let mut loaded = LOADED.lock();
        if let Some(api) = loaded.iter().find(|api| api.path == path) {
            return Ok(api);
        }
        let slots = Slots::new(family, &version);
        let loggers = LoggerPool::new(&slots)?;
        let monitors = progress::table(&slots)?;
        let (output_allocators, profilers) = (output_allocator::table(&slots)?, profiler::table(&slots)?);
        let parser = Mutex::new(None);
        let api =
            Api { version, family, path, library, slots, loggers, monitors, output_allocators, profilers, parser };
        let api: &'static Api = Box::leak(Box::new(api));
        loaded.push(api);
        Ok(api)
    }

    /// The library's own version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The family whose shapes its objects have.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A logger for one piece of work.
    pub fn logger(&self) -> Logger<'_> {
        self.loggers.lease()
    }

    /// The shape of progress monitors, if this version has them.
    pub(super) fn monitor_table(&self) -> Option<client::Table> {
        self.monitors
    }

    /// The shape of output allocators.
    pub(super) fn output_allocators(&self) -> client::Table {
        self.output_allocators
    }

    /// The shape of profilers.
    pub(super) fn profilers(&self) -> client::Table {
        self.profilers
    }

    /// True if an optimization profile serves one execution context at a time.
    pub fn shares_no_profiles(&self) -> bool {
        matches!(self.family, Family::V8_5 | Family::V8_6)
    }

    /// True if a build reports progress and can be cancelled.
    pub fn has_progress(&self) -> bool {
        self.monitors.is_some()
    }

    /// Creates and destroys a runtime: what executing an engine needs first, and what fails where there is no driver.
    pub fn try_runtime(&self) -> Result<()> {
        let logger = self.logger();
        let runtime = self.create("createInferRuntime_INTERNAL", "runtime", &logger)?;
        // SAFETY: the runtime was just made, and its public table has the deleting destructor in slot 1.
        unsafe { runtime.delete(DELETE) };
        Ok(())
    }

    /// Calls a factory that takes the logger.
    pub(super) fn create(&self, symbol: &str, what: &str, logger: &Logger) -> Result<Object> {
        let Some(factory) = self.library.symbol(symbol) else {
            bail!(
                Unsupported,
                "{} at '{}' has no {what}: give the full library, not one that only executes",
                self.version,
                self.path.display()
            );
        };
        // SAFETY: the factories have this signature in every version, and the logger has this version's shape.
        let object = self.catching(symbol, logger, || unsafe {
            let factory: Create = std::mem::transmute(factory.as_ptr());
            factory(logger.as_ptr(), self.version.native())
        })?;
        Object::returned(object).ok_or_else(|| {
            // TensorRT-RTX's builder alone works without a GPU.
            let builds_anywhere = self.version.flavour() == Flavour::Rtx && what == "builder";
            let needs = if builds_anywhere { "" } else { " (this needs an NVIDIA GPU and its driver)" };
            self.error(ErrorCode::InvalidState, format_args!("{} cannot create a {what}{needs}", self.version), logger)
        })
    }

    /// The slot of a method, or an error that names it.
    pub(super) fn slot(&self, method: Method) -> Result<u16> {
        self.slots.get(method).ok_or_else(|| {
            let name = self.method_name(method);
            err!(Unsupported, "{} has no {name}", self.version)
        })
    }

    /// The name of a method, as NVIDIA's headers have it.
    pub(super) fn method_name(&self, method: Method) -> &'static str {
        METHODS.get(method as usize).map_or("?", |row| row.name)
    }

    /// True if this version has the method.
    pub(super) fn has(&self, method: Method) -> bool {
        self.slots.get(method).is_some()
    }

    /// The value of an enumerator, or an error that names it.
    pub(super) fn value(&self, table: &[Enumerator], name: &str) -> Result<i32> {
        lookup::value(table, name, self.family, &self.version)
            .ok_or_else(|| err!(Unsupported, "{} does not know {name}", self.version))
    }

    /// The name of an enumerator, or its number.
    pub(super) fn name(&self, table: &[Enumerator], value: i32) -> String {
        lookup::name(table, value, self.family, &self.version).map_or_else(|| value.to_string(), str::to_string)
    }

    /// An error of TensorRT's domain: what failed, then the lines that the library logged meanwhile.
    pub(super) fn error(&self, code: ErrorCode, what: impl std::fmt::Display, logger: &Logger) -> Error {
        let lines = logger.take();
        let said: Vec<&str> = lines.iter().map(|l| l.text.trim()).collect();
        let message = if said.is_empty() {
            format!("{what}; {} gave no reason", self.version.flavour().product())
        } else {
            format!("{what}: {}", said.join("; "))
        };
        Error::foreign(code, ErrorDomain::TensorRt, native_code(&lines), message)
    }

    /// Runs a call of the library, named `call`, which may throw; the error has also what the library logged.
    pub(super) fn catching<R>(&self, call: &str, logger: &Logger, f: impl FnOnce() -> R) -> Result<R> {
        foreign::catching(&format!("{call} of {}", self.version), f).map_err(|thrown| {
            let said: Vec<String> = logger.take().into_iter().map(|l| l.text.trim().to_string()).collect();
            if said.is_empty() {
                return thrown;
            }
            Error::foreign(
                thrown.code(),
                thrown.domain(),
                thrown.native_code(),
                format!("{thrown}. Before it the library said: {}", said.join("; ")),
            )
        })
    }

    /// The ONNX parser that belongs to this library: beside it, or where the system's linker finds it.
    pub(super) fn parser(&self) -> Result<ParserEntry> {
        let mut parser = self.parser.lock();
        if let Some(entry) = *parser {
            return Ok(entry);
        }
        let entry = self.open_parser()?;
        *parser = Some(entry);
        Ok(entry)
    }

    fn open_parser(&self) -> Result<ParserEntry> {
        let stem = self.version.flavour().parser_library();
        let mut reasons = Vec::new();
        let mut candidates = Vec::new();
        if let Some(folder) = self.path.parent() {
            match search::libraries_at(folder, stem) {
                Ok(files) => candidates.extend(files),
                Err(reason) => reasons.push(format!("{}: {reason}", folder.display())),
            }
        }
        candidates.push(PathBuf::from(format!("{stem}.{}", self.version.major())));
        for candidate in candidates {
            match self.open_parser_at(&candidate, stem) {
                Ok(entry) => return Ok(entry),
                Err(reason) => reasons.push(format!("{}: {reason}", candidate.display())),
            }
        }
        bail!(
            NotFound,
            "cannot load the ONNX parser of {} ({stem}). Tried: {}. Put it beside '{}'",
            self.version,
            reasons.join("; "),
            self.path.display()
        )
    }

    fn open_parser_at(&self, path: &Path, stem: &str) -> std::result::Result<ParserEntry, String> {
        let library = Library::open(path)?;
        let (Some(create), Some(get_version)) =
            (library.symbol("createNvOnnxParser_INTERNAL"), library.symbol("getNvOnnxParserVersion"))
        else {
            return Err("it has no createNvOnnxParser_INTERNAL".into());
        };
        // The parser does not tell which TensorRT it was made for; its file's name does. A wrong one would crash.
        let file = dl::file_of(create).unwrap_or_else(|| path.to_path_buf());
        let file = file.canonicalize().unwrap_or(file);
        let numbers = search::file_version(&file, stem).unwrap_or_default();
        let wanted = [self.version.major(), self.version.minor()];
        let beside = file.parent() == self.path.canonicalize().ok().as_deref().and_then(Path::parent);
        if !numbers.iter().zip(wanted).all(|(a, b)| *a == b) || (numbers.len() < 2 && !beside) {
            return Err(format!("nothing says that '{}' is the parser of {}", file.display(), self.version));
        }
        // SAFETY: entry points of every parser library, with these signatures in every version.
        unsafe {
            let version = std::mem::transmute::<*mut c_void, GetVersion>(get_version.as_ptr())();
            Ok(ParserEntry { create: std::mem::transmute::<*mut c_void, CreateParser>(create.as_ptr()), version })
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at '{}'", self.version, self.path.display())
    }
}

/// The slot of the deleting destructor in the table of a public object.
pub(super) const DELETE: u16 = 1;

/// TensorRT's own error code, which its log lines carry as "Error Code 4".
fn native_code(lines: &[Line]) -> i64 {
    let code = |line: &Line| {
        let (_, rest) = line.text.split_once("Error Code ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    lines.iter().find_map(code).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::logger::Severity;
    use super::*;

    #[test]
    fn the_error_lists_every_place_that_was_tried() {
        let dir = std::env::temp_dir().join(format!("mezzo-api-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("libtensorrt_rtx.so.1"), "not a library").unwrap();
        let search = SearchPaths { explicit: Some(dir.clone()), ..SearchPaths::default() };
        let error = Api::load(Flavour::Rtx, &search, false).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert!(error.message().contains("libtensorrt_rtx.so.1"), "{error}");
        assert!(error.message().contains(search::VARIABLE), "{error}");

        let search = SearchPaths { variable: vec![dir.join("a")], paths: vec![dir.join("b")], explicit: None };
        let error = Api::load(Flavour::TensorRt, &search, false).map(|api| api.path()).unwrap_err();
        for place in ["/a (MEZZO_TENSORRT_PATH)", "/b (library paths)", "libnvinfer.so.10"] {
            assert!(error.message().contains(place), "{place}: {error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_library_is_refused() {
        let search = SearchPaths { explicit: Some(libm()), ..SearchPaths::default() };
        let error = Api::load(Flavour::TensorRt, &search, true).unwrap_err();
        assert!(error.message().contains("getInferLibVersion"), "{error}");
    }

    #[cfg(target_os = "linux")]
    fn libm() -> PathBuf {
        let library = Library::open(Path::new("libm.so.6")).unwrap();
        dl::file_of(library.symbol("cos").unwrap()).unwrap()
    }

    #[test]
    fn the_native_code_comes_from_the_log() {
        let line = |text: &str| Line { severity: Severity::Error, text: text.into() };
        assert_eq!(native_code(&[line("nothing"), line("[x.cpp::f::12] Error Code 4: Internal Error (...)")]), 4);
        assert_eq!(native_code(&[line("Error Code")]), 0);
        assert_eq!(native_code(&[]), 0);
    }
}
