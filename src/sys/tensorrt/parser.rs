//! TensorRT's own ONNX parser.

use super::abi::{Object, call, text};
use super::api::Api;
use super::builder::{Config, Network, Owned};
use super::tables::{Method, PARSER_ERROR_CODE};
use crate::error::ErrorCode;
use crate::{Result, err};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

/// A network with a model's content. Weights that the network refers to belong to the parser, so both live together.
pub struct ParsedNetwork<'b> {
    // Dropped first.
    _parser: Owned,
    network: Network<'b>,
}

/// What the parser did not like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The kind: UNSUPPORTED_NODE, INVALID_GRAPH.
    pub kind: String,
    /// The parser's own words.
    pub description: String,
    /// The node's place in the graph, if a node is at fault.
    pub node: Option<usize>,
    /// The node's name, where the version tells it.
    pub name: String,
    /// The node's operator, where the version tells it.
    pub operator: String,
}

/// Why a model could not be parsed.
pub enum ParseFailure {
    /// The parser's errors, of which there is at least one.
    Parser(Vec<ParseError>),
    /// Anything else.
    Other(crate::Error),
}

impl From<crate::Error> for ParseFailure {
    fn from(e: crate::Error) -> Self {
        ParseFailure::Other(e)
    }
}

impl<'b> Network<'b> {
    /// Fills the network from a serialized ONNX model. A network whose parsing failed cannot be used again, so it is
    /// consumed.
    pub fn parse(self, model: &[u8]) -> std::result::Result<ParsedNetwork<'b>, ParseFailure> {
        let (data, size) = (model.as_ptr().cast::<c_void>(), model.len());
        self.parse_with(Method::ParserParse, |this, slot| {
            // SAFETY: a live parser, whose own table holds its methods; the data is only read.
            unsafe { call!(this, slot, fn(*const c_void, usize, *const c_char) -> bool, data, size, std::ptr::null()) }
        })
    }

    /// Fills the network from a model file, whose weights may stand in other files of its folder.
    pub fn parse_file(self, path: &Path) -> std::result::Result<ParsedNetwork<'b>, ParseFailure> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| err!(InvalidArgument, "the path '{}' has a zero byte", path.display()))?;
        self.parse_with(Method::ParserParseFromFile, |this, slot| {
            // SAFETY: as above; the path is a C string that is only read. 2 is the severity of warnings, which the parser
            // gives to the logger anyway.
            unsafe { call!(this, slot, fn(*const c_char, c_int) -> bool, name.as_ptr(), 2) }
        })
    }

    fn parse_with(
        self,
        method: Method,
        parse: impl FnOnce(*mut c_void, u16) -> bool,
    ) -> std::result::Result<ParsedNetwork<'b>, ParseFailure> {
        let (api, logger) = (self.builder.api, self.builder.logger);
        let entry = api.parser()?;
        // SAFETY: the factory's signature in every version; network and logger are alive and of this version's shape.
        let parser = api.catching("createNvOnnxParser", logger, || unsafe {
            (entry.create)(self.owned.object.as_ptr(), logger.as_ptr(), entry.version)
        })?;
        let parser = Object::returned(parser).ok_or_else(|| {
            api.error(ErrorCode::InvalidState, format_args!("{} cannot create its ONNX parser", api.version()), logger)
        })?;
        let parser = Owned::new(parser, api.slot(Method::ParserDelete)?);
        let this = parser.object.as_ptr();
        let slot = api.slot(method)?;
        let parsed = api.catching(api.method_name(method), logger, || parse(this, slot))?;
        let errors = api.catching("IParser::getError", logger, || errors(api, this))??;
        if !errors.is_empty() {
            return Err(ParseFailure::Parser(errors));
        }
        if !parsed {
            let what = format_args!("{} cannot parse the model", api.version());
            return Err(api.error(ErrorCode::Unsupported, what, logger).into());
        }
        Ok(ParsedNetwork { _parser: parser, network: self })
    }
}

impl<'b> ParsedNetwork<'b> {
    /// The network.
    pub fn network(&self) -> &Network<'b> {
        &self.network
    }

    /// Builds the plan.
    pub fn build(&self, config: &Config) -> Result<Vec<u8>> {
        self.network.builder.build(self.network.owned.object, config)
    }
}

/// What the parser has to complain about.
fn errors(api: &Api, parser: *mut c_void) -> Result<Vec<ParseError>> {
    let (count, get) = (api.slot(Method::ParserGetNbErrors)?, api.slot(Method::ParserGetError)?);
    // SAFETY: a live parser, whose own table holds its methods.
    let count = unsafe { call!(parser, count, fn() -> c_int) };
    let at = |i| {
        // SAFETY: as above; the index is below the count.
        Object::returned(unsafe { call!(parser, get, fn(c_int) -> *mut c_void, i) })
    };
    (0..count).filter_map(at).map(|e| error(api, e.as_ptr())).collect()
}

fn error(api: &Api, this: *mut c_void) -> Result<ParseError> {
    let number = |method| -> Result<c_int> {
        let slot = api.slot(method)?;
        // SAFETY: an error of a live parser, whose own table holds its methods; this one returns a number.
        Ok(unsafe { call!(this, slot, fn() -> c_int) })
    };
    let words = |method| -> Result<String> {
        if !api.has(method) {
            return Ok(String::new());
        }
        let slot = api.slot(method)?;
        // SAFETY: as above; this one returns a C string that lives as long as the error.
        Ok(unsafe { text(call!(this, slot, fn() -> *const c_char)) })
    };
    Ok(ParseError {
        kind: api.name(PARSER_ERROR_CODE, number(Method::ParserErrorCode)?),
        description: words(Method::ParserErrorDesc)?,
        node: usize::try_from(number(Method::ParserErrorNode)?).ok(),
        name: words(Method::ParserErrorNodeName)?,
        operator: words(Method::ParserErrorNodeOperator)?,
    })
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", one_line(&self.description), self.kind)
    }
}

/// The parser's words in one line, each of its lines once.
fn one_line(words: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in words.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("; ")
}

impl ParseFailure {
    /// As one error; `label` names a node by its place in the graph.
    pub fn into_error(self, api: &Api, label: impl Fn(usize) -> Option<String>) -> crate::Error {
        const SHOWN: usize = 8;
        let errors = match self {
            ParseFailure::Other(e) => return e,
            ParseFailure::Parser(errors) => errors,
        };
        let mut told: Vec<String> = errors.iter().take(SHOWN).map(|e| e.with_node(&label)).collect();
        if errors.len() > SHOWN {
            told.push(format!("and {} more", errors.len() - SHOWN));
        }
        let message = format!("the ONNX parser of {} refuses the model: {}", api.version(), told.join("; "));
        crate::Error::foreign(ErrorCode::Unsupported, crate::ErrorDomain::TensorRt, 0, message)
    }
}

impl ParseError {
    fn with_node(&self, label: impl Fn(usize) -> Option<String>) -> String {
        let node = match (&*self.name, &*self.operator, self.node) {
            ("", "", Some(place)) => label(place).map(|l| format!("node {l}: ")),
            ("", "", None) => None,
            ("", operator, _) => Some(format!("a node of operator {operator}: ")),
            (name, "", _) => Some(format!("node '{name}': ")),
            (name, operator, _) => Some(format!("node '{name}' ({operator}): ")),
        };
        format!("{}{self}", node.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_their_node_as_well_as_the_version_can() {
        let error = |name: &str, operator: &str, node| ParseError {
            kind: "UNSUPPORTED_NODE".into(),
            description: "no importer\n".into(),
            node,
            name: name.into(),
            operator: operator.into(),
        };
        let label = |place| (place == 3).then(|| "'third' (Conv)".to_string());
        let told = |e: ParseError| e.with_node(label);
        assert_eq!(told(error("a", "Conv", Some(1))), "node 'a' (Conv): no importer (UNSUPPORTED_NODE)");
        assert_eq!(told(error("a", "", Some(1))), "node 'a': no importer (UNSUPPORTED_NODE)");
        assert_eq!(told(error("", "Conv", None)), "a node of operator Conv: no importer (UNSUPPORTED_NODE)");
        assert_eq!(told(error("", "", Some(3))), "node 'third' (Conv): no importer (UNSUPPORTED_NODE)");
        assert_eq!(one_line("a\n\n b \na\nb\nc"), "a; b; c");
        assert_eq!(told(error("", "", Some(4))), "no importer (UNSUPPORTED_NODE)");
    }
}
