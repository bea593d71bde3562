// SPDX-License-Identifier: Apache-2.0

// Program regex has much debug information: that of templates of the standard library.
#include <map>
#include <regex>
#include <string>

int main(int argc, char **argv)
{
	std::regex expression(argv[0]);
	std::wregex wide(std::wstring(argc, L'x'));
	std::map<std::string, std::string> found;
	std::smatch match;
	std::string text = argv[argc - 1];

	if (std::regex_search(text, match, expression))
		found[match[0]] = text;
	return found.size() + std::regex_match(L"xx", wide);
}
