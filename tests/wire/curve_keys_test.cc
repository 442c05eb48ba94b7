#include "wire/curve_keys.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cctype>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/support.h"

namespace shoal::wire {
namespace {

unsigned mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

void write(const std::string& path, const std::string& text, unsigned mode = 0600) {
  std::ofstream(path) << text;
  ASSERT_EQ(::chmod(path.c_str(), mode), 0);
}

bool says(const Status& status, const std::string& part) {
  return !status.is_ok() && status.message().find(part) != std::string::npos;
}

TEST(CurveKeys, PairsAreFreshAndConsistent) {
  const auto a = make_curve_keys(), b = make_curve_keys();
  ASSERT_TRUE(a.is_ok() && b.is_ok());
  EXPECT_NE(a->public_key, b->public_key);
  EXPECT_TRUE(check_key_pair("a", *a).is_ok());
  EXPECT_TRUE(says(check_key_pair("a", {a->public_key, b->secret_key}), "does not belong"));
  EXPECT_TRUE(check_public_key("a", a->public_key).is_ok());
}

TEST(CurveKeys, MalformedKeysAreRefused) {
  const std::string good = make_curve_keys()->public_key;
  for (const std::string& bad : {std::string(), good.substr(1), good + "x", std::string(40, ' '),
                                 std::string(40, '"'), good.substr(0, 39) + std::string(1, '\0')}) {
    EXPECT_EQ(check_public_key("workers[0].public_key", bad).code(), Code::kInvalidArgument) << bad;
  }
}

TEST(CurveKeys, DocumentedKeysAreRefused) {
  for (const char* known :
       {"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
        "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"}) {
    EXPECT_TRUE(says(check_public_key("key", known), "documentation")) << known;
  }
}

TEST(CurveKeys, FilesKeepTheirModeAndContent) {
  testing::TempDir dir;
  const std::string keys_dir = dir.path() + "/keys";
  const CurveKeyPair keys = make_curve_keys().value();
  ::umask(0);  // the modes must not come from the umask
  ASSERT_TRUE(write_key_pair(keys_dir, "w0", keys).is_ok());
  ::umask(022);
  EXPECT_EQ(mode_of(keys_dir), 0700u);
  EXPECT_EQ(mode_of(keys_dir + "/w0.key"), 0600u);
  EXPECT_EQ(mode_of(keys_dir + "/w0.pub"), 0644u);
  const auto read = read_key_pair(keys_dir + "/w0.key");
  ASSERT_TRUE(read.is_ok()) << read.status().to_string();
  EXPECT_EQ(read->secret_key, keys.secret_key);
  EXPECT_EQ(read->public_key, keys.public_key);
  EXPECT_EQ(read_public_key(keys_dir + "/w0.pub").value(), keys.public_key);
  EXPECT_EQ(testing::read_file(keys_dir + "/w0.pub").find(keys.secret_key), std::string::npos);

  EXPECT_EQ(write_key_pair(keys_dir, "w0", make_curve_keys().value()).code(), Code::kAlreadyExists);
  EXPECT_EQ(read_key_pair(keys_dir + "/w0.key")->secret_key, keys.secret_key) << "kept";
  EXPECT_TRUE(write_key_pair(keys_dir, "w0", make_curve_keys().value(), true).is_ok());
  EXPECT_NE(read_key_pair(keys_dir + "/w0.key")->secret_key, keys.secret_key);
  EXPECT_EQ(write_key_pair(keys_dir, "../evil", keys).code(), Code::kInvalidArgument);
}

TEST(CurveKeys, OpenFilesAreRefused) {
  testing::TempDir dir;
  ASSERT_TRUE(write_key_pair(dir.path(), "w", make_curve_keys().value()).is_ok());
  const std::string path = dir.path() + "/w.key";
  for (const unsigned mode : {0640u, 0604u, 0620u, 0644u}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    const auto refused = read_key_pair(path);
    EXPECT_EQ(refused.status().code(), Code::kFailedPrecondition);
    EXPECT_TRUE(says(refused.status(), "chmod 600 " + path)) << refused.status().message();
    EXPECT_TRUE(read_key_pair(path, true).is_ok());
  }
  ASSERT_EQ(::chmod(path.c_str(), 0400), 0);
  EXPECT_TRUE(read_key_pair(path).is_ok());
}

TEST(CurveKeys, BrokenFilesAreRefusedWithoutQuotingSecrets) {
  testing::TempDir dir;
  const CurveKeyPair keys = make_curve_keys().value(), other = make_curve_keys().value();
  const std::string path = dir.path() + "/w.key";
  EXPECT_EQ(read_key_pair(path).status().code(), Code::kNotFound);
  for (const std::string& text :
       {std::string(), "public " + keys.public_key + "\n", "secret " + keys.secret_key + "\n",
        keys.secret_key + "\n", "public " + other.public_key + "\nsecret " + keys.secret_key + "\n",
        "secrets " + keys.secret_key + "\n", std::string(5000, '#')}) {
    write(path, text);
    const auto read = read_key_pair(path);
    ASSERT_FALSE(read.is_ok()) << text;
    EXPECT_EQ(read.status().message().find(keys.secret_key), std::string::npos);
    EXPECT_NE(read.status().message().find(path), std::string::npos) << read.status().message();
  }
  write(path, "# a comment\r\n\r\n secret " + keys.secret_key + " \r\npublic " + keys.public_key);
  EXPECT_TRUE(read_key_pair(path).is_ok()) << "blanks and line ends do not matter";
}

TEST(CurveKeys, AllowListComesFromTheFolder) {
  testing::TempDir dir;
  const CurveKeyPair a = make_curve_keys().value(), b = make_curve_keys().value();
  ASSERT_TRUE(write_key_pair(dir.path(), "coordinator", make_curve_keys().value()).is_ok());
  ASSERT_TRUE(write_key_pair(dir.path(), "w-a", a).is_ok());
  write(dir.path() + "/w-b.pub", b.public_key + "\n", 0644);
  write(dir.path() + "/notes.txt", "not a key");
  const auto allowed = read_allowed_keys(dir.path());
  ASSERT_TRUE(allowed.is_ok()) << allowed.status().to_string();
  EXPECT_EQ(*allowed,
            (std::map<std::string, std::string>{{a.public_key, "w-a"}, {b.public_key, "w-b"}}));
  write(dir.path() + "/w-c.pub", a.public_key + "\n", 0644);
  EXPECT_TRUE(says(read_allowed_keys(dir.path()).status(), "the same key as w-a's"));
  write(dir.path() + "/w-c.pub", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\n", 0644);
  EXPECT_TRUE(says(read_allowed_keys(dir.path()).status(), "documentation"));
  EXPECT_EQ(read_allowed_keys(dir.path() + "/none").status().code(), Code::kNotFound);
}

TEST(CurveKeys, WorkerNames) {
  for (const char* good : {"w", "worker-0", "rack1.gpu_2", "A9"}) {
    EXPECT_TRUE(check_worker_name(good).is_ok()) << good;
  }
  EXPECT_TRUE(check_worker_name(std::string(64, 'a')).is_ok());
  for (const std::string& bad :
       {std::string(), std::string(65, 'a'), std::string("a b"), std::string("../x"),
        std::string(".w"), std::string("ü"), std::string("coordinator"), std::string("a\0b", 3)}) {
    EXPECT_EQ(check_worker_name(bad).code(), Code::kInvalidArgument) << bad;
  }
}

TEST(ApiKeys, FixedShapeAndFresh) {
  std::set<std::string> seen;
  std::set<char> characters;
  for (int i = 0; i < 200; ++i) {
    const std::string key = make_api_key();
    ASSERT_EQ(key.size(), 9u + 43u);
    EXPECT_EQ(key.substr(0, 9), "sk-shoal-");
    for (const char c : key.substr(9)) {
      EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(c)));
      characters.insert(c);
    }
    EXPECT_TRUE(seen.insert(key).second);
  }
  EXPECT_EQ(characters.size(), 62u) << "all digits occur";
}

}  // namespace
}  // namespace shoal::wire
