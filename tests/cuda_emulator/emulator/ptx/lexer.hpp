// PTX text to tokens.
#pragma once

#include <string>
#include <vector>

namespace emu {

struct Token {
  enum Kind { kWord, kNumber, kString, kPunctuation, kEnd };
  Kind kind;
  std::string text;  // of a string: without its quotes
  int line;
};

/// Ends with a token of kind kEnd. Comments are left out.
std::vector<Token> tokens_of(const std::string& text);

}  // namespace emu
