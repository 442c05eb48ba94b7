// Checked pointers of the emulator: they know their thread, their allocation and their bounds. A
// value is read or written whole: p[i] yields something that only converts to the value or takes
// one, so `auto v = p[i]` followed by a use of v does not compile.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/simt/machine.h"

namespace shoal::emulator {

// Throws unless `bytes` at `address` are aligned, inside [low, high) and may be read or written.
void check_access(Thread& thread, Region* region, const uint8_t* low, const uint8_t* high,
                  const uint8_t* address, uint64_t bytes, bool write, Written how = kPlain);
// The same for both ends of an async copy, and for an access at system scope.
void check_copy(Thread& thread, Region* to_region, const uint8_t* to_low, const uint8_t* to_high,
                Region* from_region, const uint8_t* from_low, const uint8_t* from_high,
                AsyncCopy& copy);
// ldmatrix: the rows whose addresses the first `rows` lanes gave, read by a lane that did not.
void check_rows_for_others(Warp& warp, uint32_t rows);
void check_system_access(Thread& thread, Region* region, const uint8_t* low, const uint8_t* high,
                         const uint8_t* address, uint64_t bytes, bool write);

template <class T>
class Pointer {
 public:
  using Value = std::remove_const_t<T>;
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(std::has_single_bit(sizeof(T)) && sizeof(T) <= 16,
                "one access moves 1, 2, 4, 8 or 16 bytes");

  class Reference {
   public:
    explicit Reference(const Pointer& at) : at_(at) {}
    Reference(const Reference&) = delete;
    operator Value() const&& { return at_.load(); }
    void operator=(const Value& value) const&& { at_.store(value); }
    void operator+=(const Value& value) const&& { at_.store(at_.load() + value); }

   private:
    const Pointer at_;
  };

  Pointer() = default;
  Pointer(Thread* thread, Region* region, T* at, const uint8_t* low, const uint8_t* high)
      : at_(at), low_(low), high_(high), region_(region), thread_(thread) {}
  operator Pointer<const T>() const requires(!std::is_const_v<T>) {
    return {thread_, region_, at_, low_, high_};
  }

  template <std::integral I>
  Reference operator[](I i) const {
    return Reference(*this + i);
  }
  Reference operator*() const { return Reference(*this); }
  template <std::integral I>
  Pointer operator+(I i) const {
    Pointer moved = *this;
    // On addresses: a pointer may pass its bounds as long as nothing is read there.
    moved.at_ = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(at_) +
                                     static_cast<uintptr_t>(static_cast<int64_t>(i)) * sizeof(T));
    return moved;
  }
  template <std::integral I>
  Pointer& operator+=(I i) {
    return *this = *this + i;
  }

  Value load() const {
    check(false, kPlain);
    Value value;
    std::memcpy(&value, at_, sizeof(T));
    return value;
  }
  void store(const Value& value) const {
    static_assert(!std::is_const_v<T>, "a store through a pointer to const");
    check(true, kPlain);
    std::memcpy(at_, &value, sizeof(T));
  }
  void check(bool write, Written how) const {
    check_access(*thread_, region_, low_, high_, bytes(), sizeof(T), write, how);
  }

  // V gets this pointer's constness.
  template <class V>
  auto view() const {
    using Target = std::conditional_t<std::is_const_v<T>, const V, V>;
    return Pointer<Target>(
        thread_, region_, reinterpret_cast<Target*>(reinterpret_cast<uintptr_t>(at_)), low_, high_);
  }
  T* address() const { return at_; }
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(at_); }
  Region* region() const { return region_; }
  const uint8_t* low() const { return low_; }
  const uint8_t* high() const { return high_; }

 private:
  T* at_ = nullptr;
  const uint8_t* low_ = nullptr;
  const uint8_t* high_ = nullptr;
  Region* region_ = nullptr;
  Thread* thread_ = nullptr;
};

}  // namespace shoal::emulator
