// SPDX-License-Identifier: Apache-2.0
// Templates, lambdas and calls that are inlined over several levels.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace shop {

template <typename T, int N> struct Grid {
	T cells[N][N];
	template <typename F> void each(F f)
	{
		for (auto &row : cells)
			for (auto &cell : row)
				f(cell);
	}
	T sum() const
	{
		T total{};
		for (const auto &row : cells)
			total = std::accumulate(std::begin(row), std::end(row), total);
		return total;
	}
};

struct Visitor {
	int operator()(int n) const { return n + 1; }
	int operator()(const std::string &s) const { return static_cast<int>(s.size()); }
	int operator()(const std::vector<double> &v) const { return static_cast<int>(v.size() * 2); }
};

using Item = std::variant<int, std::string, std::vector<double>>;

static int weigh(const std::vector<Item> &items)
{
	int n = 0;
	for (const auto &item : items)
		n += std::visit(Visitor{}, item);
	return n;
}

class Shape {
public:
	virtual ~Shape() = default;
	virtual double area() const = 0;
};

class Square : public Shape {
	double side;

public:
	explicit Square(double s) : side(s) {}
	double area() const override { return side * side; }
};

template <typename... Ts> auto all(Ts... values) { return (values + ... + 0); }

} // namespace shop

int main(int argc, char **argv)
{
	shop::Grid<int, 7> grid{};
	grid.each([&](int &cell) { cell = argc * 3; });
	std::map<std::string, std::function<int(int)>> calls;
	for (int i = 0; i < argc; i++)
		calls[argv[i]] = [i](int n) { return n * i; };
	std::unordered_map<int, std::unique_ptr<shop::Shape>> shapes;
	shapes[argc] = std::make_unique<shop::Square>(argc);
	std::vector<shop::Item> items{1, std::string("two"), std::vector<double>{3, 4}};
	std::vector<std::string> words{"a", "bc", "def"};
	std::sort(words.begin(), words.end(), [](const auto &a, const auto &b) { return a.size() > b.size(); });
	double total = grid.sum() + shop::weigh(items) + shop::all(1, 2, argc);
	for (const auto &[name, call] : calls)
		total += call(static_cast<int>(name.size()));
	for (const auto &[n, shape] : shapes)
		total += n * shape->area();
	std::printf("%f %s\n", total, words[0].c_str());
	return 0;
}
