#include "base/host.h"

#include <gtest/gtest.h>
#include <net/if.h>

namespace shoal {
namespace {

TEST(Host, AddressesAndNamesInOneForm) {
  const struct {
    const char *text, *host;
  } kCases[] = {{"10.0.0.7", "10.0.0.7"},
                {"0.0.0.0", "0.0.0.0"},
                {"::", "::"},
                {"[::]", "::"},
                {"::1", "::1"},
                {"[::1]", "::1"},
                {"[FD00:0:0::00A7]", "fd00::a7"},
                {"0:0:0:0:0:0:0:1", "::1"},
                {"::ffff:127.0.0.9", "127.0.0.9"},
                {"[::ffff:a00:7]", "10.0.0.7"},
                {"fe80::2%eth0", "fe80::2%eth0"},
                {"[fe80::2%br-lan.4]", "fe80::2%br-lan.4"},
                {"gpu-1.rack_2.example", "gpu-1.rack_2.example"},
                {"example.org.", "example.org."},
                {"1password.example", "1password.example"},
                {"localhost", "localhost"}};
  for (const auto& c : kCases) {
    const auto host = parse_host(c.text);
    ASSERT_TRUE(host.is_ok()) << c.text << ": " << host.status().message();
    EXPECT_EQ(*host, c.host) << c.text;
    EXPECT_EQ(*parse_host(*host), *host) << "not canonical";
  }
}

TEST(Host, WhatIsNoneIsExplained) {
  const std::string label(64, 'a');
  const struct {
    std::string text;
    const char* why;
  } kCases[] = {{"", "is empty"},
                {" ", "has spaces"},
                {"127.0.0.1 ", "has spaces"},
                {"a\nb", "has spaces or control characters"},
                {"*", "every interface is 0.0.0.0 (IPv4) or ::"},
                {"http://127.0.0.1", "is a URL"},
                {"tcp://[::1]:1", "is a URL"},
                {"10.0.0.7:8081", "has a port behind it"},
                {"localhost:1", "has a port behind it"},
                {"[::1]:8081", "has a port behind it"},
                {"10.0.0.0/8", "has a '/' in it"},
                {"[::1", "lacks its closing bracket"},
                {"[127.0.0.1]", "has no IPv6 address in its brackets"},
                {"[]", "has no IPv6 address in its brackets"},
                {"::g", "is no IPv6 address"},
                {"1:2:3", "is no IPv6 address"},
                {"127.1", "is no IPv4 address of four numbers"},
                {"2130706433", "is no IPv4 address of four numbers"},
                {"0x7f.0.0.1", "is no IPv4 address of four numbers"},
                {"example.0x1", "is no IPv4 address of four numbers"},
                {"256.0.0.1", "is no IPv4 address of four numbers"},
                {"fd00::1%eth0", "only link-local addresses"},
                {"fe80::1%", "no name of an interface"},
                {"fe80::1%far-too-long-a-name", "no name of an interface"},
                {"-flag.example", "is no name"},
                {"a..b", "is no name"},
                {".", "is no name"},
                {"caf\xc3\xa9.example", "is no name"},
                {label + ".example", "is no name"},
                {std::string("a\0b", 3), "control characters"},
                {std::string(5000, 'x'), "is no name"}};
  for (const auto& c : kCases) {
    const auto host = parse_host(c.text);
    ASSERT_FALSE(host.is_ok()) << c.text;
    EXPECT_NE(host.status().message().find(c.why), std::string::npos) << host.status().message();
    EXPECT_EQ(host.status().message().rfind("not a host: ", 0), 0u);
    EXPECT_LT(host.status().message().size(), 500u);
  }
}

TEST(Host, WithPort) {
  EXPECT_EQ(*parse_host_port("10.0.0.7:0"), (HostPort{"10.0.0.7", 0}));
  EXPECT_EQ(*parse_host_port("[::]:65535"), (HostPort{"::", 65535}));
  EXPECT_EQ(*parse_host_port("[fe80::1%eth0]:80"), (HostPort{"fe80::1%eth0", 80}));
  EXPECT_EQ(*parse_host_port("[::ffff:10.0.0.7]:80"), (HostPort{"10.0.0.7", 80}));
  const struct {
    const char *text, *why;
  } kCases[] = {{"", "it has no port"},
                {"10.0.0.7", "it has no port"},
                {"[::1]", "it has no port"},
                {"8080", "it has no port"},
                {":8080", "it has no host; every interface is"},
                {"::1:8080", "in brackets"},
                {"[::1:8080", "closing bracket"},
                {"tcp://10.0.0.7:1", "leave 'tcp://' out"},
                {"10.0.0.7:", "'' is no port in 0"},
                {"10.0.0.7:65536", "'65536' is no port"},
                {"10.0.0.7:99999999999999999999", "is no port"},
                {"10.0.0.7:-1", "'-1' is no port"},
                {"10.0.0.7:+1", "'+1' is no port"},
                {"10.0.0.7: 1", "' 1' is no port"},
                {"10.0.0.7:http", "'http' is no port"},
                {"127.1:80", "four numbers"},
                {"[10.0.0.7]:80", "no IPv6 address in its brackets"}};
  for (const auto& c : kCases) {
    const auto address = parse_host_port(c.text);
    ASSERT_FALSE(address.is_ok()) << c.text;
    EXPECT_NE(address.status().message().find(c.why), std::string::npos)
        << address.status().message();
  }
  for (const char* text : {"10.0.0.7:0", "[::1]:80", "[fe80::1%eth0]:80", "gpu-1:65535"}) {
    EXPECT_EQ(format_host_port(*parse_host_port(text)), text);
  }
}

TEST(Host, Loopback) {
  for (const char* host : {"127.0.0.1", "127.255.1.2", "::1", "localhost", "LocalHost",
                           "localhost.", "shoal.localhost"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
  }
  EXPECT_TRUE(is_loopback(*parse_host("::ffff:127.0.0.1")));
  for (const char* host : {"", "0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "localhost.example",
                           "notlocalhost", "fe80::1%lo", "::2", "127.0.0.1.example"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

TEST(Host, InUrls) {
  EXPECT_EQ(url_host("10.0.0.7"), "10.0.0.7");
  EXPECT_EQ(url_host("::1"), "[::1]");
  EXPECT_EQ(url_host("fe80::1%eth0"), "[fe80::1%25eth0]");
  EXPECT_EQ(local_host("0.0.0.0"), "127.0.0.1");
  EXPECT_EQ(local_host("::"), "::1");
  EXPECT_EQ(local_host("10.0.0.7"), "10.0.0.7");
}

TEST(Host, ResolvesWhatNeedsNobody) {
  using Addresses = std::vector<std::string>;
  EXPECT_EQ(*resolve_host("10.0.0.7"), Addresses{"10.0.0.7"});
  EXPECT_EQ(*resolve_host("fd00::7"), Addresses{"fd00::7"});
  for (const char* name : {"localhost", "LOCALHOST.", "a.localhost"}) {
    EXPECT_EQ(*resolve_host(name), (Addresses{"127.0.0.1", "::1"})) << name;
  }
  EXPECT_EQ(resolve_host("fe80::1%no-such").status().code(), Code::kNotFound);
  if (if_nametoindex("lo") != 0) {
    EXPECT_EQ(*resolve_host("fe80::1%lo"), Addresses{"fe80::1%lo"});
  }
  const auto none = resolve_host("no-such-host.invalid");
  ASSERT_FALSE(none.is_ok());
  EXPECT_NE(none.status().message().find("cannot resolve 'no-such-host.invalid'"),
            std::string::npos);
}

}  // namespace
}  // namespace shoal
