// PTX text to tokens.
#pragma once

#include <string>
#include <vector>

namespace emu {

struct Token {
  enum Kind { kWord, kNumber, kString, kPunctuation, kEnd };
  Kind kind;
  std::string text;  // strings: without quotes
  int line;
};

/// The last token has kind kEnd. Comments are dropped.
std::vector<Token> tokens_of(const std::string& text);

}  // namespace emu
