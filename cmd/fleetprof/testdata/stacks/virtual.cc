// SPDX-License-Identifier: Apache-2.0
// Virtual calls, and a sort that calls back.
#include "burn.h"
#include <algorithm>
#include <memory>
#include <vector>

struct Shape {
	virtual ~Shape() = default;
	virtual long area(int n) = 0;
};

struct Square : Shape {
	NOIPA long area(int n) override
	{
		volatile int side[40];
		side[n % 40] = n;
		return side[n % 40] * n;
	}
};

struct Group : Shape {
	std::vector<std::unique_ptr<Shape>> parts;
	NOIPA long area(int n) override
	{
		long sum = 0;
		for (auto &part : parts)
			sum += part->area(n + 1);
		return sum;
	}
};

static NOIPA bool before(int a, int b) { return a % 1000 < b % 1000; }

static NOIPA void sort_numbers()
{
	std::vector<int> numbers;
	for (int i = 0; i < 1000; i++)
		numbers.push_back(i * 7919 % 10007);
	std::sort(numbers.begin(), numbers.end(), before);
	sink += numbers[0];
}

static NOIPA void measure(Shape &shape)
{
	for (int n = 0; n < 1000; n++)
		sink += shape.area(n);
}

int main()
{
	puts("main;measure;Group::area;Group::area;Square::area");
	puts("main;sort_numbers;before");
	Group outer;
	for (int i = 0; i < 3; i++) {
		auto inner = std::make_unique<Group>();
		inner->parts.push_back(std::make_unique<Square>());
		inner->parts.push_back(std::make_unique<Square>());
		outer.parts.push_back(std::move(inner));
	}
	ready();
	for (;;) {
		measure(outer);
		sort_numbers();
	}
}
