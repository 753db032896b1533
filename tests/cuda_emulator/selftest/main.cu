// `selftest NAME` runs one test; `selftest` lists all tests with their expected errors.
#include "framework.cuh"

int main(int argc, char** argv) {
  if (argc == 2) {
    tests().at(argv[1]).run();
    return 0;
  }
  for (const auto& [name, test] : tests()) std::printf("%s\t%s\n", name.c_str(), test.error.c_str());
}
