// One listening socket. Inside the HTTP server only: brings Boost.Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <functional>
#include <memory>

#include "base/clock.h"

namespace shoal::gateway {

class HttpListener : public std::enable_shared_from_this<HttpListener> {
 public:
  using Error = boost::system::error_code;
  using Endpoint = boost::asio::ip::tcp::endpoint;
  struct Callbacks {
    std::function<bool()> has_room;  // false: connections wait in the backlog for a moment
    std::function<void(boost::asio::ip::tcp::socket socket)> accepted;
    // accept() failed for want of them; true: one will be free in a moment.
    std::function<bool()> no_descriptors;
  };

  // Binds and listens. Neither this socket nor accepted ones are inherited by child processes.
  static Error open(boost::asio::io_context& io, const Endpoint& endpoint,
                    std::shared_ptr<HttpListener>* out);

  Endpoint endpoint() const;
  // Once. Callbacks are called one at a time, until close(); what they capture must live until the
  // io_context has run dry.
  void start(Callbacks callbacks);
  void close();  // any thread

 private:
  explicit HttpListener(boost::asio::io_context& io);
  void wait();
  void accept_some();
  void failed(int error);
  void pause(Duration time);

  boost::asio::io_context& io_;
  boost::asio::strand<boost::asio::io_context::executor_type> strand_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  boost::asio::ip::tcp protocol_ = boost::asio::ip::tcp::v4();
  Callbacks callbacks_;
  TimePoint next_warning_{};
};

}  // namespace shoal::gateway
