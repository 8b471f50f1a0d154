//! The walk over a graph's nodes.

use super::{Reader, brief, items, text};
use crate::frontend::torch::lower::{Arg, Location, SymInt, Tensor};
use crate::{Result, bail, err};
use serde_json::Value as Json;

/// Arguments given by place and by name.
type Given = (Vec<Arg>, Vec<(String, Arg)>);

impl Reader {
    /// All nodes of a graph.
    pub fn nodes(&mut self, nodes: &Json) -> Result<()> {
        items(nodes).iter().try_for_each(|n| self.node(n))
    }

    fn node(&mut self, node: &Json) -> Result<()> {
        let target = text(&node["target"])?;
        let at = location(&node["metadata"]);
        let results = if let Some(op) = target.strip_prefix("torch.ops.higher_order.") {
            self.higher_order(op, node, &at)?
        } else if let Some(op) = target.strip_prefix("torch.ops.") {
            // Checks of sizes and ranges compute nothing.
            if op.contains("assert_scalar") || op.contains("sym_constrain_range") {
                return Ok(());
            }
            let mut parts = op.split('.');
            let (space, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let overload = parts.next().unwrap_or("");
            let (positional, keyword) = self.arguments(node)?;
            self.l.call(&format!("{space}::{name}"), overload, &positional, &keyword, &at)?
        } else {
            let (positional, keyword) = self.arguments(node)?;
            let all: Vec<Arg> = positional.into_iter().chain(keyword.into_iter().map(|(_, a)| a)).collect();
            let name = target.rsplit('.').next().unwrap_or(target);
            match arithmetic(name, &all) {
                Some(result) => vec![result],
                // Comparisons of sizes that only the running model knows feed nothing but assertions.
                None if ["eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "sym_not", "not_"].contains(&name) => {
                    vec![Arg::None]
                }
                None => {
                    self.l.refuse(target, "it has no lowering for those operands", &at);
                    vec![Arg::Tensor(self.l.poison())]
                }
            }
        };
        self.bind(&node["outputs"], results)
    }

    fn arguments(&self, node: &Json) -> Result<Given> {
        let (mut positional, mut keyword) = (Vec::new(), Vec::new());
        for input in items(&node["inputs"]) {
            let Some(arg) = self.arg(&input["arg"])? else {
                bail!(Unsupported, "{}: the argument {} is of an unknown kind", node["target"], brief(&input["arg"]));
            };
            match input["name"].as_str() {
                Some(name) if !name.is_empty() => keyword.push((name.to_owned(), arg)),
                _ => positional.push(arg),
            }
        }
        Ok((positional, keyword))
    }

    /// Gives the results the names that later nodes use.
    fn bind(&mut self, outputs: &Json, mut results: Vec<Arg>) -> Result<()> {
        let outputs = items(outputs);
        // Operators that return a list may also be written with one output for each member.
        if let ([Arg::List(members)], true) = (results.as_slice(), outputs.len() > 1) {
            results = members.clone();
        }
        for (i, output) in outputs.iter().enumerate() {
            let result = results.get(i).or(if results.len() == 1 { results.first() } else { None }).cloned();
            let Some((kind, v)) = output.as_object().and_then(|o| o.iter().next()) else { continue };
            let names: Vec<&Json> = match kind.as_str() {
                "as_tensors" => items(v).iter().map(|t| &t["name"]).collect(),
                "as_tensor" => vec![&v["name"]],
                "as_sym_int" | "as_sym_bool" | "as_sym_float" => vec![&v["as_name"]],
                _ => continue,
            };
            let Some(result) = result else { bail!(InvalidFile, "a node has more outputs than its operator gives") };
            for (j, name) in names.into_iter().enumerate() {
                let value = match (&result, kind.as_str()) {
                    (Arg::List(members), "as_tensors") => members
                        .get(j)
                        .cloned()
                        .ok_or_else(|| err!(InvalidFile, "a node has more outputs than its operator gives"))?,
                    _ => result.clone(),
                };
                if let Some(name) = name.as_str() {
                    self.env.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// torch.cond, and regions that only set modes.
    fn higher_order(&mut self, op: &str, node: &Json, at: &Location) -> Result<Vec<Arg>> {
        let inputs = items(&node["inputs"]);
        let graph_at = inputs.iter().position(|i| i["arg"].get("as_graph").is_some());
        let graph = |i: usize| inputs.get(i).map(|i| &i["arg"]["as_graph"]["graph"]).filter(|g| g.is_object());
        match op {
            "cond" => {
                let (Some(yes), Some(no)) = (graph(1), graph(2)) else {
                    bail!(InvalidFile, "a condition has no branches")
                };
                let condition = inputs.first().map(|i| self.arg(&i["arg"])).transpose()?.flatten();
                let operands = match inputs.get(3).map(|i| self.arg(&i["arg"])).transpose()?.flatten() {
                    Some(Arg::List(items)) => items,
                    Some(one) => vec![one],
                    None => Vec::new(),
                };
                let condition = match condition {
                    Some(Arg::Tensor(t)) => t,
                    Some(Arg::Bool(b)) => return self.inline(if b { yes } else { no }, &operands),
                    _ => bail!(Unsupported, "a condition must be a tensor or a bool"),
                };
                if condition.is_poisoned() {
                    return Ok(vec![Arg::Tensor(condition)]);
                }
                let yes = self.branch("then", yes, &operands)?;
                let no = self.branch("else", no, &operands)?;
                if let Some(t) = yes.1.iter().chain(&no.1).find(|t| t.is_poisoned()) {
                    return Ok(vec![Arg::Tensor(t.clone())]);
                }
                Ok(self.l.branch(&condition, yes, no)?.into_iter().map(Arg::Tensor).collect())
            }
            "wrap_with_set_grad_enabled"
            | "wrap_with_autocast"
            | "wrap"
            | "invoke_subgraph"
            | "checkpoint"
            | "tag_activation_checkpoint" => {
                let at = graph_at.ok_or_else(|| err!(InvalidFile, "{op} has no graph"))?;
                let body = graph(at).ok_or_else(|| err!(InvalidFile, "{op} has no graph"))?;
                let mut operands = Vec::new();
                for input in inputs.get(at + 1..).unwrap_or(&[]) {
                    match self.arg(&input["arg"])? {
                        Some(Arg::List(list)) => operands.extend(list),
                        // The name of an invoked graph.
                        Some(Arg::Str(_)) | None => {}
                        Some(a) => operands.push(a),
                    }
                }
                self.inline(body, &operands)
            }
            _ => {
                self.l.refuse(&format!("higher_order::{op}"), "it has no lowering", at);
                Ok(vec![Arg::Tensor(self.l.poison())])
            }
        }
    }

    /// Walks a nested graph in place. Its names are its own.
    fn inline(&mut self, graph: &Json, operands: &[Arg]) -> Result<Vec<Arg>> {
        let outer = self.env.clone();
        for (input, operand) in items(&graph["inputs"]).iter().zip(operands) {
            let name = input["as_tensor"]["name"].as_str().or(input["as_sym_int"]["as_name"].as_str());
            if let Some(name) = name {
                self.env.insert(name.to_owned(), operand.clone());
            }
        }
        let done = self
            .nodes(&graph["nodes"])
            .and_then(|()| items(&graph["outputs"]).iter().map(|o| Ok(self.arg(o)?.unwrap_or(Arg::None))).collect());
        self.env = outer;
        done
    }

    fn branch(&mut self, name: &str, graph: &Json, operands: &[Arg]) -> Result<(crate::model::Graph, Vec<Tensor>)> {
        // The lowering is moved into the closure's argument and back.
        let mut l = std::mem::take(&mut self.l);
        let done = l.subgraph(name, |inner| {
            std::mem::swap(&mut self.l, inner);
            let results = self.inline(graph, operands);
            std::mem::swap(&mut self.l, inner);
            results?
                .into_iter()
                .map(|a| match a {
                    Arg::Tensor(t) => Ok(t),
                    other => bail!(Unsupported, "a branch gives {}, not a tensor", other.kind()),
                })
                .collect()
        });
        self.l = l;
        done
    }
}

/// Arithmetic on sizes (`_operator.*`, `math.*`, `torch.sym_*`).
fn arithmetic(name: &str, args: &[Arg]) -> Option<Arg> {
    let int = |i: usize| match args.get(i)? {
        Arg::Int(v) => Some(v.clone()),
        Arg::Bool(b) => Some(SymInt::Known(i64::from(*b))),
        _ => None,
    };
    if let (Some(a), Some(b)) = (int(0), int(1)) {
        let known = a.known().zip(b.known());
        return Some(match name {
            "add" => Arg::Int(a.plus(&b)),
            "sub" => Arg::Int(a.minus(&b)),
            "mul" => Arg::Int(a.times(&b)),
            "floordiv" => Arg::Int(a.floor_div(&b)?),
            "mod" => Arg::Int(a.modulo(&b)?),
            "pow" => {
                Arg::Int((0..b.known().filter(|n| (0..=8).contains(n))?).fold(SymInt::Known(1), |p, _| p.times(&a)))
            }
            "truediv" => match known {
                Some((x, y)) => Arg::Float(x as f64 / y as f64),
                None => Arg::Int(a.exact_div(&b)?),
            },
            "sym_max" | "max" => Arg::Int(a.larger(&b)),
            "sym_min" | "min" => Arg::Int(a.smaller(&b)),
            "eq" if a == b => Arg::Bool(true),
            "eq" => Arg::Bool(known?.0 == known?.1),
            "ne" => Arg::Bool(known?.0 != known?.1),
            "lt" => Arg::Bool(known?.0 < known?.1),
            "le" => Arg::Bool(known?.0 <= known?.1),
            "gt" => Arg::Bool(known?.0 > known?.1),
            "ge" => Arg::Bool(known?.0 >= known?.1),
            "and_" => Arg::Bool(known?.0 != 0 && known?.1 != 0),
            "or_" => Arg::Bool(known?.0 != 0 || known?.1 != 0),
            _ => return None,
        });
    }
    let float = |i: usize| match args.get(i)? {
        Arg::Float(v) => Some(*v),
        Arg::Int(v) => v.known().map(|v| v as f64),
        _ => None,
    };
    match (name, args) {
        ("neg", [Arg::Int(v)]) => Some(Arg::Int(SymInt::Known(0).minus(v))),
        ("sym_float" | "sym_int" | "trunc" | "floor" | "ceil", [Arg::Int(v)]) => Some(Arg::Int(v.clone())),
        ("sym_not", [Arg::Bool(b)]) => Some(Arg::Bool(!b)),
        ("floor" | "sym_int" | "trunc", [Arg::Float(v)]) => Some(Arg::from(v.floor() as i64)),
        ("ceil", [Arg::Float(v)]) => Some(Arg::from(v.ceil() as i64)),
        ("sqrt" | "_sym_sqrt" | "sym_sqrt", [_]) => Some(Arg::Float(float(0)?.sqrt())),
        ("add", [_, _]) => Some(Arg::Float(float(0)? + float(1)?)),
        ("sub", [_, _]) => Some(Arg::Float(float(0)? - float(1)?)),
        ("mul", [_, _]) => Some(Arg::Float(float(0)? * float(1)?)),
        ("truediv", [_, _]) => Some(Arg::Float(float(0)? / float(1)?)),
        ("pow", [_, _]) => Some(Arg::Float(float(0)?.powf(float(1)?))),
        _ => None,
    }
}

/// The module's path and the line of the source that a node came from.
fn location(metadata: &Json) -> Location {
    let stack = metadata["nn_module_stack"].as_str().unwrap_or("");
    let module = stack.rsplit(';').next().and_then(|last| last.split(',').nth(1)).unwrap_or("");
    let module = if module.contains("_empty_nn_module_stack") { "" } else { module };
    let trace = metadata["stack_trace"].as_str().unwrap_or("");
    let mut source = String::new();
    if let Some(line) = trace.lines().rev().find(|l| l.trim_start().starts_with("File \"")) {
        let mut parts = line.trim_start().trim_start_matches("File \"").splitn(2, "\", line ");
        let file = parts.next().unwrap_or("").rsplit('/').next().unwrap_or("");
        let number: String = parts.next().unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        source = format!("{file}:{number}");
    }
    Location { module: module.trim_start_matches("L__self__.").to_owned(), source }
}
