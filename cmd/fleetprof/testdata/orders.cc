// SPDX-License-Identifier: Apache-2.0

// A program that burns CPU in functions of several names: inlined, template, virtual.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace shop {

struct Price {
	virtual ~Price() = default;
	virtual long of(long item) const = 0;
};

struct Taxed final : Price {
	long of(long item) const override { return mix(item) * 119 / 100; }

private:
	static long mix(long x) {
		for (int i = 0; i < 50; i++) {
			x = (x ^ (x >> 7)) * 2654435761 + i;
		}
		return x;
	}
};

template <typename T> long sum(const std::vector<T> &all, const Price &price) {
	long total = 0;
	for (const T &item : all) {
		total += price.of(item);
	}
	return total;
}

__attribute__((noinline)) long serve(std::map<std::string, std::vector<long>> &orders, const Price &price) {
	long total = 0;
	for (auto &[name, items] : orders) {
		std::sort(items.begin(), items.end(), [](long a, long b) { return (a * 7919) % 1000 < (b * 7919) % 1000; });
		total += sum(items, price) + name.size();
		std::reverse(items.begin(), items.end());
	}
	return total;
}

} // namespace shop

int main() {
	std::map<std::string, std::vector<long>> orders;
	for (long i = 0; i < 20000; i++) {
		orders["customer " + std::to_string(i % 50)].push_back(i * 48271 % 65537);
	}
	std::unique_ptr<shop::Price> price = std::make_unique<shop::Taxed>();
	for (volatile long total = 0;; total = total + shop::serve(orders, *price)) {
	}
}
