# Helpers every folder uses: one flag set, one way to declare a library and a test.
find_package(Threads REQUIRED)

# ccache compiles nothing at all where it may not write its cache (in a home that is read-only): then the cache is in the
# build tree.
find_program(SHOAL_CCACHE ccache)
set(SHOAL_LAUNCHER)
if(SHOAL_CCACHE)
  set(SHOAL_LAUNCHER ${SHOAL_CCACHE})
  set(probe ${CMAKE_BINARY_DIR}/CMakeFiles/ccache_probe)
  file(WRITE ${probe}.cc "int probe;\n")
  execute_process(COMMAND ${SHOAL_CCACHE} ${CMAKE_CXX_COMPILER} -c ${probe}.cc -o ${probe}.o
                  RESULT_VARIABLE probe_status OUTPUT_QUIET ERROR_VARIABLE probe_error)
  if(NOT probe_status EQUAL 0)
    string(STRIP "${probe_error}" probe_error)
    message(STATUS "ccache keeps its cache in ${CMAKE_BINARY_DIR}/ccache: ${probe_error}")
    set(SHOAL_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_DIR=${CMAKE_BINARY_DIR}/ccache ${SHOAL_CCACHE})
  endif()
endif()
if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SHOAL_LAUNCHER})
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# -O2 with checks kept: SHOAL_CHECK guards memory, NDEBUG only drops the O(n) invariant walks.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")

add_library(shoal_flags INTERFACE)
# -ffp-contract=off: a sum must not depend on whether the compiler happened to fuse it
# (batch invariance); kernels ask for fma explicitly.
target_compile_options(shoal_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror -Wno-missing-field-initializers
                                             -ffp-contract=off -fno-math-errno)
target_include_directories(shoal_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_link_libraries(shoal_flags INTERFACE Threads::Threads)
if(SHOAL_SANITIZE)
  add_compile_options(-fsanitize=${SHOAL_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${SHOAL_SANITIZE})
  add_compile_definitions(SHOAL_SANITIZED=1)
  # GCC 12 takes what sanitizers add to moves of std::function and std::variant for such reads (GCC bug 105562 and kin).
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()

# shoal_library(NAME SOURCES a.cc … [PUBLIC libs…] [PRIVATE libs…])
function(shoal_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC shoal_flags ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()

# shoal_test(NAME SOURCES a.cc … LINK libs… [TIMEOUT s]): one GoogleTest program, run as one ctest.
function(shoal_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(SHOAL_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE shoal_flags shoal_test_support ${ARG_LINK} GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()

# shoal_fuzz(NAME SOURCES a.cc … LINK libs…): one libFuzzer program (preset fuzz). Its seeds are in
# tests/fuzz/corpus/: fuzz_gguf -max_total_time=60 NEW_FOLDER tests/fuzz/corpus/gguf
if(SHOAL_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
function(shoal_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE shoal_flags ${ARG_LINK})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()
