// SPDX-License-Identifier: Apache-2.0
// Recursion on a thread, a sort that calls back, and panics that unwind.
use std::hint::black_box;
use std::io::Write;
use std::panic::{catch_unwind, resume_unwind};

#[inline(never)]
fn burn(seed: u64) -> u64 {
    (0..10_000).fold(seed, |sum, i| black_box(sum ^ i))
}

#[inline(never)]
fn narrow(left: u64) -> u64 {
    black_box(deeper(left)) + 1
}

#[inline(never)]
fn wide(left: u64) -> u64 {
    let local = black_box([left; 40]);
    black_box(deeper(left)) + local[(left % 40) as usize]
}

fn pick(left: u64) -> (&'static str, fn(u64) -> u64) {
    if left.wrapping_mul(2654435761) & 0x8000_0000 == 0 { ("rust::narrow", narrow) } else { ("rust::wide", wide) }
}

#[inline(always)]
fn deeper(left: u64) -> u64 {
    if left == 0 { burn(left) } else { black_box(pick(left).1)(left - 1) }
}

#[inline(never)]
fn compare(a: &u64, b: &u64) -> std::cmp::Ordering {
    (a % 1009).cmp(&(b % 1009))
}

#[inline(never)]
fn sort(count: u64) -> u64 {
    let mut numbers: Vec<u64> = (0..count).map(|i| i * 7919 % 10007).collect();
    numbers.sort_by(compare);
    numbers[0]
}

#[inline(never)]
fn thrower(left: u64) {
    let _dropped = black_box(vec![left]);
    if left == 0 {
        resume_unwind(Box::new(left));
    }
    thrower(left - 1);
    black_box(left);
}

#[inline(never)]
fn catcher() {
    black_box(catch_unwind(|| thrower(5)).is_err());
}

#[inline(never)]
fn worker() {
    loop {
        black_box(deeper(60));
        black_box(sort(500));
        for _ in 0..5 {
            catcher();
        }
    }
}

fn main() {
    let chain: Vec<&str> = (1..=60).rev().map(|left| pick(left).0).collect();
    println!("rust::worker;{};rust::burn", chain.join(";"));
    println!("rust::worker;rust::sort;rust::compare");
    println!("rust::worker;rust::catcher{}", ";rust::thrower".repeat(6));
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::thread::spawn(worker).join().unwrap();
}
