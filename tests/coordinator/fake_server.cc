// The real gateway on a free port with a scripted service behind it, for clients written in other
// languages. Prints its URL, serves until standard input ends.
#include <cstdio>
#include <iostream>
#include <string>

#include "tests/coordinator/gateway_server.h"

int main(int argc, char** argv) {
  using namespace shoal;
  using namespace shoal::gateway::testing;
  std::vector<std::string> keys;
  if (argc > 1) keys.emplace_back(argv[1]);
  TestServer server({}, keys);
  server.service.set_script([](const GenerationRequest& request) {
    Script script = text_script("2 plus 3 is 5. \xf0\x9f\x98\x80 Caf\xc3\xa9!");
    script.endless = request.ignore_eos;
    return script;
  });
  std::printf("ready at http://127.0.0.1:%u\n", server.port());
  std::fflush(stdout);
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  return 0;
}
