// What is said about a command line that cannot be understood.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class ParseError;
class Validator;
}  // namespace CLI

namespace shoal {

// "help", "help serve" and "version" are words people try: as the options they stand for.
std::vector<std::string> with_options_for_words(std::vector<std::string> arguments);

// For Option::transform() of a number of tokens: "4k" becomes 4096 and "1M" 1048576, as in the
// configuration; what is no such size is left to the option's own checks.
CLI::Validator token_count();

// A line of usage, and last what is wrong; a misspelt command or option with what was meant.
// `arguments` as given to `app`, which has refused them with `error`.
std::string explain(const CLI::App& app, const std::vector<std::string>& arguments,
                    const CLI::ParseError& error);

}  // namespace shoal
