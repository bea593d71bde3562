// SPDX-License-Identifier: Apache-2.0
// Generics, closures and iterators, most of which are inlined.
use std::collections::{BTreeMap, HashMap};

trait Area {
    fn area(&self) -> f64;
}

struct Square(f64);
struct Circle(f64);

impl Area for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

impl Area for Circle {
    fn area(&self) -> f64 {
        self.0 * self.0 * 3.14
    }
}

fn fold<T: Copy, F: Fn(T, T) -> T>(all: &[T], zero: T, f: F) -> T {
    let mut total = zero;
    for &one in all {
        total = f(total, one);
    }
    total
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let mut counts: HashMap<char, usize> = HashMap::new();
    for c in words.iter().flat_map(|w| w.chars()) {
        *counts.entry(c).or_insert(0) += 1;
    }
    let sorted: BTreeMap<_, _> = counts.into_iter().collect();
    let shapes: Vec<Box<dyn Area>> = vec![Box::new(Square(2.0)), Box::new(Circle(words.len() as f64))];
    let areas: Vec<f64> = shapes.iter().map(|s| s.area()).collect();
    println!("{} {:?}", fold(&areas, 0.0, |a, b| a + b), sorted);
}
