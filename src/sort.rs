//! Sorting that is compiled once, for what is seldom sorted: the standard library's sort is 6 KB for every type.

use std::cmp::Ordering;

/// Sorts; what is equal keeps its order.
pub fn sort_by<T>(values: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = order_of(values.len(), &|a, b| compare(&values[a], &values[b]));
    let mut all: Vec<Option<T>> = values.drain(..).map(Some).collect();
    values.extend(order.into_iter().filter_map(|i| all[i].take()));
}

/// The places `0..count` in the order of what stands there.
fn order_of(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| compare(*a, *b));
    order
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_equal_keeps_its_order() {
        let mut pairs: Vec<(u32, String)> = (0..100).map(|i| (i * 7 % 5, i.to_string())).collect();
        let mut expected = pairs.clone();
        expected.sort_by_key(|p| p.0);
        super::sort_by(&mut pairs, |a, b| a.0.cmp(&b.0));
        assert_eq!(pairs, expected);
    }
}
