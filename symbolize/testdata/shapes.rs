// SPDX-License-Identifier: Apache-2.0

mod shop {
    pub struct Cart<T>(pub Vec<T>);

    impl<T: Clone> Cart<T> {
        #[inline(never)]
        pub fn add(&mut self, t: T) -> usize {
            self.0.push(t);
            self.0.len()
        }
    }

    #[inline(never)]
    pub fn price(a: usize) -> usize {
        std::hint::black_box(a) + 1
    }
}

fn main() {
    let mut cart = shop::Cart(vec![1u32]);
    println!("{}", cart.add(2) + shop::price(3));
}
