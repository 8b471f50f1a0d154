//! Options set by name, for command lines and configuration files.

use crate::{Result, bail, err};

/// One option: its name, what values it takes (for messages), and what sets it (`None`: the value is not one of them).
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    pub(super) values: &'static str,
    pub(super) set: fn(&mut T, &str) -> Option<()>,
}

/// Sets the option `key`; an error that lists all options if there is none of that name.
pub(super) fn set<T>(keys: &[Key<T>], target: &mut T, key: &str, value: &str) -> Result<()> {
    let Some(found) = keys.iter().find(|k| k.name == key) else {
        let known: Vec<String> = keys.iter().map(|k| format!("'{}' ({})", k.name, k.values)).collect();
        bail!(NotFound, "there is no option '{key}': the options are {}", known.join(", "));
    };
    (found.set)(target, value)
        .ok_or_else(|| err!(InvalidArgument, "the option '{key}' cannot be '{value}': it takes {}", found.values))
}

/// Reads "true", "false", "1" or "0".
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a list separated by commas and adds its items.
pub(super) fn add_list(list: &mut Vec<String>, value: &str) -> Option<()> {
    let items = value.split(',').map(str::trim);
    if items.clone().any(str::is_empty) {
        return None;
    }
    list.extend(items.map(str::to_string));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_values_list_what_there_is() {
        let keys = [Key::<usize> {
            name: "threads",
            values: "a whole number",
            set: |t, v| {
                *t = v.parse().ok()?;
                Some(())
            },
        }];
        let mut threads = 1;
        set(&keys, &mut threads, "threads", "4").unwrap();
        assert_eq!(threads, 4);
        let e = set(&keys, &mut threads, "thread", "4").unwrap_err();
        assert!(e.message().contains("'thread'") && e.message().contains("'threads' (a whole number)"), "{e}");
        let e = set(&keys, &mut threads, "threads", "many").unwrap_err();
        assert!(e.message().contains("'many'") && e.message().contains("a whole number"), "{e}");
        assert_eq!(threads, 4);
    }
}
