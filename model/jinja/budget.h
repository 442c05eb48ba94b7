// What a rendering may spend, and the objects that are paid from it.
//
// Values share structure, so a short template can describe an enormous amount of work: whatever the
// interpreter visits, copies or compares is charged here in proportion to its size, before it is
// done. One Budget per rendering, used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include "model/chat_template.h"

namespace shoal::jinja {

class Budget;
template <class T>
class Ref;

// An object on the rendering's heap: counted, and freed when the last Ref goes.
class Object {
 public:
  explicit Object(Budget& budget) : budget_(&budget) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  Budget& budget() const { return *budget_; }

 private:
  friend class Budget;
  template <class T>
  friend class Ref;
  template <class T, class... Args>
  friend class Ref<T> make_object(Budget& budget, size_t extra_bytes, Args&&... args);
  Budget* budget_;
  Object* next_dead_ = nullptr;
  size_t held_ = 0;  // bytes charged for the object itself
  uint32_t references_ = 0;
};

// An object that changes after it was made and so may come to hold itself. The budget knows all of
// these and empties those that are left when the rendering ends.
class MutableObject : public Object {
 public:
  explicit MutableObject(Budget& budget);
  ~MutableObject() override;
  virtual void clear() = 0;  // lets go of every value

 private:
  friend class Budget;
  void unlink();
  MutableObject* previous_ = nullptr;
  MutableObject* next_ = nullptr;
  bool linked_ = true;
};

class Budget {
 public:
  // Both outlive the budget.
  Budget(const TemplateLimits& limits, RenderControl& control);
  ~Budget();  // REQUIRES: no Ref is left but those inside MutableObjects
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // All charges throw TemplateError when a limit is exceeded or the rendering is cancelled.
  // One unit: a node of the template evaluated, an item visited: some ten nanoseconds.
  void work(uint64_t units) {
    used_ += units;
    if (used_ >= next_check_) [[unlikely]]
      check();
  }
  // `n` bytes read, copied or compared.
  void bytes(uint64_t n) { work(1 + n / kBytesPerUnit); }

  // Live bytes: objects with their characters and items, variables, arguments, output so far. Not
  // counted: what a single operation holds on the stack, and the text returned at the end.
  void hold(uint64_t bytes);
  void release(uint64_t bytes) noexcept { live_ -= bytes; }

  uint64_t max_depth() const { return limits_.max_depth; }

 private:
  friend class MutableObject;
  template <class T>
  friend class Ref;
  static constexpr uint64_t kBytesPerUnit = 16;
  static constexpr uint64_t kCheckEvery = 8192;  // units; about 100 µs between looks at the clock

  void check();
  void plan_check();
  // Frees an object nobody refers to. What it alone held is freed next, not inside: a list nested a
  // million deep must not nest a million calls.
  void retire(Object* object) noexcept;

  const TemplateLimits& limits_;
  RenderControl& control_;
  uint64_t used_ = 0;
  uint64_t next_check_ = 0;
  uint64_t live_ = 0;
  uint64_t peak_ = 0;
  Object* dead_ = nullptr;
  bool freeing_ = false;
  MutableObject* mutables_ = nullptr;
};

template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_) ++object_->references_;
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ && --object_->references_ == 0) object_->budget_->retire(object_);
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

// `extra_bytes` lie right behind the object, uninitialised.
template <class T, class... Args>
Ref<T> make_object(Budget& budget, size_t extra_bytes, Args&&... args) {
  constexpr size_t kAllocator = 16;  // what malloc adds
  const size_t bytes = sizeof(T) + extra_bytes;
  budget.hold(bytes + kAllocator);
  T* object = new (::operator new(bytes)) T(budget, std::forward<Args>(args)...);
  static_cast<Object*>(object)->held_ = bytes + kAllocator;
  return Ref<T>(object);
}

// Bytes held while it lives: of containers that are not objects.
class Held {
 public:
  explicit Held(Budget& budget) : budget_(budget) {}
  Held(Budget& budget, uint64_t bytes) : budget_(budget) { set(bytes); }
  ~Held() { budget_.release(bytes_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  void set(uint64_t bytes) {
    if (bytes > bytes_) budget_.hold(bytes - bytes_);
    if (bytes < bytes_) budget_.release(bytes_ - bytes);
    bytes_ = bytes;
  }
  void add(uint64_t bytes) { set(bytes_ + bytes); }
  Budget& budget() const { return budget_; }

 private:
  Budget& budget_;
  uint64_t bytes_ = 0;
};

}  // namespace shoal::jinja
