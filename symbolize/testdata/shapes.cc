// SPDX-License-Identifier: Apache-2.0

// C++ names of all kinds: overloads, templates, lambdas, operators, members of
// an anonymous namespace.

#include <string>
#include <vector>

namespace shop {

__attribute__((noinline)) int price(int a) { return a + 1; }
__attribute__((noinline)) int price(const std::string &a) { return static_cast<int>(a.size()); }

template <typename T> struct Cart {
	std::vector<T> items;
	__attribute__((noinline)) int add(T t) {
		items.push_back(t);
		return static_cast<int>(items.size());
	}
	__attribute__((noinline)) bool operator<(const Cart &other) const { return items.size() < other.items.size(); }
};

namespace {
__attribute__((noinline)) int hidden(int a) { return a * 7; }
} // namespace

template <typename F> __attribute__((noinline)) int call(F f) { return f(3); }

} // namespace shop

int main(int argc, char **argv) {
	shop::Cart<int> cart;
	shop::Cart<std::string> names;
	int n = cart.add(argc) + names.add(argv[0]) + shop::price(argc) + shop::price(argv[0]) + shop::hidden(argc);
	n += cart < cart;
	return n + shop::call([argc](int x) { return x + argc; });
}
