// The subcommands of `shoal`. Each file adds its options to the application and leaves what to run.
#pragma once

#include <functional>

#include "base/exit_code.h"  // of every command

namespace CLI {
class App;
}

namespace shoal {

using CommandAction = std::function<int()>;

void add_serve_command(CLI::App& app, CommandAction& action);
void add_coordinator_command(CLI::App& app, CommandAction& action);
void add_worker_command(CLI::App& app, CommandAction& action);
void add_inspect_command(CLI::App& app, CommandAction& action);
void add_chat_command(CLI::App& app, CommandAction& action);
void add_keygen_command(CLI::App& app, CommandAction& action);
void add_synth_command(CLI::App& app, CommandAction& action);
void add_bench_command(CLI::App& app, CommandAction& action);
void add_bench_kernels_command(CLI::App& bench, CommandAction& action);  // of `bench`
void add_bench_decode_command(CLI::App& bench, CommandAction& action);

}  // namespace shoal
