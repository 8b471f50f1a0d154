//! How the generated tables are read.

use super::tables::{METHODS, Method};
use super::version::{Family, Version};

/// Values of one thing in every family; in each, the version from which a value holds, then the value, ascending.
type ByFamily = [&'static [(u32, i32)]; 6];

/// Stands in the tables where a method or an enumerator is gone.
#[allow(dead_code)] // not every generated table has such a place
pub const GONE: i32 = i32::MIN;

/// A method's slots.
pub struct MethodRow {
    /// Its name as NVIDIA's documentation has it.
    pub name: &'static str,
    /// Its slot per family.
    pub slots: ByFamily,
}

/// An enumerator's values.
pub struct Enumerator {
    /// Its name without the leading k.
    pub name: &'static str,
    /// Its value per family.
    pub values: ByFamily,
}

fn find(table: &ByFamily, family: Family, version: &Version) -> Option<i32> {
    let held = table.get(family as usize)?.iter().take_while(|(from, _)| *from <= version.key());
    held.last().map(|(_, value)| *value).filter(|value| *value != GONE)
}

/// The slots of every method in one version.
pub struct Slots([Option<u16>; METHODS.len()]);

impl Slots {
    /// Picks a version's slots.
    pub fn new(family: Family, version: &Version) -> Slots {
        let slot = |row: &MethodRow| find(&row.slots, family, version).and_then(|s| u16::try_from(s).ok());
        Slots(std::array::from_fn(|i| METHODS.get(i).and_then(slot)))
    }

    /// The slot of a method, if the version has it.
    pub fn get(&self, method: Method) -> Option<u16> {
        self.0.get(method as usize).copied().flatten()
    }
}

/// The value of an enumerator in one version, if it has it.
pub fn value(table: &[Enumerator], name: &str, family: Family, version: &Version) -> Option<i32> {
    find(&table.iter().find(|e| e.name == name)?.values, family, version)
}

/// The name of an enumerator that has that value in one version.
pub fn name(table: &[Enumerator], value: i32, family: Family, version: &Version) -> Option<&'static str> {
    table.iter().find(|e| find(&e.values, family, version) == Some(value)).map(|e| e.name)
}

#[cfg(test)]
mod tests {
    use super::super::tables::*;
    use super::*;

    fn at(native: i32) -> (Family, Version) {
        let version = Version::from_native(native).unwrap();
        (version.family(false).unwrap().0, version)
    }

    fn slot(method: Method, native: i32) -> Option<u16> {
        let (family, version) = at(native);
        Slots::new(family, &version).get(method)
    }

    /// Spot checks against the measured facts, on both sides of every place where families part.
    #[test]
    fn slots_follow_family_and_version() {
        let all = [8503, 8601, 100_001, 110_400, 10_400, 10_701];
        let of = |method| all.map(|v| slot(method, v).map_or(-1, i32::from));
        assert_eq!(of(Method::BuilderBuildSerializedNetwork), [17, 17, 14, 11, 14, 11]);
        assert_eq!(of(Method::BuilderConfigSetProgressMonitor), [-1, -1, 56, 45, 45, 45]);
        assert_eq!(of(Method::BuilderConfigSetBuilderOptimizationLevel), [-1, 51, 47, 36, 36, 36]);
        assert_eq!(of(Method::ParserDelete), [10, 10, 9, 7, 9, 7]);
        assert_eq!(of(Method::ParserErrorNodeName), [-1, -1, 6, 6, 6, 6]);
        assert_eq!(of(Method::LoggerLog), [0, 0, 0, 4, 0, 4]);
        assert_eq!(of(Method::OptimizationProfileIsValid), [9, 9, 9, 7, 9, 7]);
    }

    #[test]
    fn enumerators_follow_family_and_version() {
        let of = |table, name| {
            [8503, 100_001, 110_400, 10_400, 10_701].map(|v| {
                let (family, version) = at(v);
                value(table, name, family, &version).unwrap_or(-1)
            })
        };
        assert_eq!(of(NETWORK_DEFINITION_CREATION_FLAG, "STRONGLY_TYPED"), [-1, 1, 0, 1, 0]);
        assert_eq!(of(BUILDER_FLAG, "TF32"), [7, 6, 6, 6, 6]);
        assert_eq!(of(BUILDER_FLAG, "FP16"), [0, 0, -1, 0, -1]);
        assert_eq!(of(DATA_TYPE, "FP4"), [-1, -1, 10, 10, 10]);
        let (family, version) = at(100_800);
        assert_eq!(value(DATA_TYPE, "FP4", family, &version), Some(10));
        assert_eq!(name(DATA_TYPE, 11, family, &version), None);
        assert_eq!(name(LAYER_TYPE, 1, family, &version), Some("CAST"));
        let (family, version) = at(8503);
        assert_eq!(name(LAYER_TYPE, 1, family, &version), Some("FULLY_CONNECTED"));
    }

    /// No two methods of a class may share a slot in any version.
    #[test]
    fn no_slot_is_used_twice() {
        for native in [8501, 8503, 8601, 100_001, 100_800, 100_900, 101_600, 110_000, 110_400, 10_300, 10_500, 10_701] {
            let (family, version) = at(native);
            let slots = Slots::new(family, &version);
            let mut seen = crate::hash::HashMap::default();
            for (row, slot) in METHODS.iter().zip(slots.0) {
                let class = row.name.split("::").next();
                if let (Some(slot), false) = (slot, row.name.contains('~'))
                    && let Some(other) = seen.insert((class, slot), row.name)
                {
                    panic!("{} and {other} share slot {slot} in {version}", row.name);
                }
            }
        }
    }
}
