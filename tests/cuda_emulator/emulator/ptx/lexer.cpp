#include "ptx/lexer.hpp"

#include <cctype>

namespace emu {
namespace {

bool starts_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.'; }
bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.'; }

}  // namespace

std::vector<Token> tokens_of(const std::string& s) {
  std::vector<Token> out;
  int line = 1;
  std::size_t i = 0;
  const std::size_t n = s.size();
  while (i < n && s[i]) {
    const char c = s[i];
    if (c == '\n') {
      ++line, ++i;
    } else if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
    } else if (c == '/' && i + 1 < n && s[i + 1] == '/') {
      while (i < n && s[i] != '\n') ++i;
    } else if (c == '/' && i + 1 < n && s[i + 1] == '*') {
      i += 2;
      while (i + 1 < n && !(s[i] == '*' && s[i + 1] == '/')) line += s[i++] == '\n';
      i += 2;
    } else if (c == '"') {
      std::size_t j = i + 1;
      while (j < n && s[j] != '"') j += s[j] == '\\' ? 2 : 1;
      out.push_back({Token::kString, s.substr(i + 1, j - i - 1), line});
      i = j + 1;
    } else if (std::isdigit(static_cast<unsigned char>(c))) {
      std::size_t j = i;
      while (j < n && (std::isalnum(static_cast<unsigned char>(s[j])) || s[j] == '.' ||
                       ((s[j] == '-' || s[j] == '+') && (s[j - 1] == 'e' || s[j - 1] == 'E') && s[i + 1] != 'x' && s[i + 1] != 'f' &&
                        s[i + 1] != 'd')))
        ++j;
      out.push_back({Token::kNumber, s.substr(i, j - i), line});
      i = j;
    } else if (starts_word(c)) {
      std::size_t j = i;
      while (j < n &&
             (in_word(s[j]) || (s[j] == ':' && j + 2 < n && s[j + 1] == ':' && std::isalpha(static_cast<unsigned char>(s[j + 2])))))
        j += s[j] == ':' ? 2 : 1;
      out.push_back({Token::kWord, s.substr(i, j - i), line});
      i = j;
    } else {
      out.push_back({Token::kPunctuation, std::string(1, c), line});
      ++i;
    }
  }
  out.push_back({Token::kEnd, "", line});
  return out;
}

}  // namespace emu
