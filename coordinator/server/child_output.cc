#include "coordinator/server/child_output.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/core.h>

namespace shoal {
namespace {

using std::chrono::steady_clock;

// Notice of lines whose window ends.
constexpr int kTurnMs = 50;

bool make_pipe(Descriptor* reader, Descriptor* writer) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  *reader = Descriptor(ends[0]);
  *writer = Descriptor(ends[1]);
  return ::fcntl(reader->get(), F_SETFL, O_NONBLOCK) == 0;
}

}  // namespace

ChildOutput::ChildOutput(size_t children, std::function<void(std::string_view line)> sink)
    : sink_(std::move(sink)), lines_(children) {
  if (!make_pipe(&wake_reader_, &wake_writer_)) return;  // then it is noticed within a turn
  ::fcntl(wake_writer_.get(), F_SETFL, O_NONBLOCK);
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ChildOutput::~ChildOutput() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

Result<Descriptor> ChildOutput::add(const std::string& name) {
  Descriptor reader, writer;
  if (!thread_.joinable() || !make_pipe(&reader, &writer))
    return unavailable(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  {
    std::lock_guard lock(mutex_);
    pipes_.push_back({name, std::move(reader), "", false});
  }
  wake();
  return writer;
}

void ChildOutput::drain(const std::string& name, Duration patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] {
    return std::ranges::none_of(pipes_, [&](const Pipe& pipe) { return pipe.name == name; });
  });
  say(lines_.take_all());
}

void ChildOutput::wake() {
  const char byte = 0;
  (void)!::write(wake_writer_.get(), &byte, 1);
}

void ChildOutput::say(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) sink_(line);
}

// REQUIRES: mutex_ held.
void ChildOutput::read_from(Pipe& pipe) {
  char chunk[16384];
  const ssize_t got = ::read(pipe.reader.get(), chunk, sizeof(chunk));
  pipe.ended = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
  if (got > 0) pipe.pending.append(chunk, static_cast<size_t>(got));
  const TimePoint now = steady_clock::now();
  size_t at = 0;
  while (at < pipe.pending.size()) {
    size_t end = pipe.pending.find('\n', at);
    const bool whole = end != std::string::npos;
    const bool too_long = std::min(end, pipe.pending.size()) - at > kMaxLineBytes;
    if (!whole && !too_long && !pipe.ended) break;
    end = too_long ? at + kMaxLineBytes : std::min(end, pipe.pending.size());
    if (end > at) lines_.add(pipe.name, std::string_view(pipe.pending).substr(at, end - at), now);
    at = whole && !too_long ? end + 1 : end;
  }
  pipe.pending.erase(0, at);
}

void ChildOutput::run() {
  std::vector<pollfd> fds;
  for (bool stopping = false;;) {
    fds.assign(1, {wake_reader_.get(), POLLIN, 0});
    bool waiting = false;
    {
      std::lock_guard lock(mutex_);
      for (const Pipe& pipe : pipes_) fds.push_back({pipe.reader.get(), POLLIN, 0});
      stopping = stopping_;
      waiting = !lines_.empty();
    }
    const int ready = ::poll(fds.data(), fds.size(), stopping ? 0 : (waiting ? kTurnMs : -1));
    char drained[64];
    while (::read(wake_reader_.get(), drained, sizeof(drained)) > 0) {
    }
    std::lock_guard lock(mutex_);
    // Pipes that were added meanwhile come last.
    for (size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) read_from(pipes_[i - 1]);
    }
    say(stopping ? lines_.take_all() : lines_.take(steady_clock::now()));
    if (std::erase_if(pipes_, [](const Pipe& pipe) { return pipe.ended; }) > 0)
      changed_.notify_all();
    const bool nothing_left =
        std::all_of(fds.begin() + 1, fds.end(), [](const pollfd& fd) { return fd.revents == 0; });
    if (stopping && (ready <= 0 || nothing_left)) break;
  }
}

}  // namespace shoal
