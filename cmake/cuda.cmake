# SHOAL_CUDA: OFF never looks for nvcc; AUTO uses it if it is there and new enough; ON fails without it.
set(SHOAL_CUDA AUTO CACHE STRING "CUDA kernels: AUTO, ON or OFF")
set_property(CACHE SHOAL_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SHOAL_CUDA_ARCHITECTURES 80 CACHE STRING "Compute capabilities to build for, as in 80;90;120")
set(SHOAL_WITH_CUDA OFF)
if(NOT SHOAL_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SHOAL_CUDA is AUTO, ON or OFF, not \"${SHOAL_CUDA}\"")
endif()
if(NOT SHOAL_CUDA STREQUAL OFF)
  find_program(SHOAL_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin)
  set(nvcc_problem "")
  if(NOT SHOAL_NVCC)
    set(nvcc_problem "there is no nvcc in PATH, CUDA_HOME/bin or /usr/local/cuda/bin")
  elseif(SHOAL_SANITIZE OR SHOAL_FUZZ)
    # A library opened at run time cannot leave the sanitizers' symbols to its program.
    set(nvcc_problem "a build with sanitizers has no CUDA kernels")
  else()
    execute_process(COMMAND ${SHOAL_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+)\\.[0-9]+" nvcc_release "${nvcc_says}")
    if(NOT nvcc_release OR CMAKE_MATCH_1 LESS 13)
      set(nvcc_problem "${SHOAL_NVCC} is not of CUDA 13 or later (${nvcc_release})")
    endif()
  endif()
  if(NOT nvcc_problem)
    set(SHOAL_WITH_CUDA ON)
    message(STATUS "CUDA kernels: ${SHOAL_NVCC} (${nvcc_release}), architectures ${SHOAL_CUDA_ARCHITECTURES}")
  elseif(SHOAL_CUDA STREQUAL ON)
    message(FATAL_ERROR "SHOAL_CUDA=ON, but ${nvcc_problem}")
  else()
    message(STATUS "CUDA kernels: none, ${nvcc_problem}")
  endif()
endif()
# 2810: nvcc takes the assignment of a [[nodiscard]] type for a discarded value.
# Contraction is off as on the host: fused operations are written out. Kernels call constexpr functions of
# base/ (mix64), which must not know CUDA. -Xptxas -v: what cmake/nvcc.sh keeps.
set(SHOAL_NVCC_FLAGS -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr -Werror=all-warnings -diag-suppress=2810
    -ccbin ${CMAKE_CXX_COMPILER} -Xptxas -v -I${PROJECT_SOURCE_DIR})

# shoal_nvcc(SOURCE x.cu OUT x.o FLAGS …): one translation unit. What ptxas says of registers, memory and
# spills goes to OUT.ptxas (tests/cuda/ptxas_report.py reads it).
function(shoal_nvcc)
  cmake_parse_arguments(ARG "" "SOURCE;OUT" "FLAGS" ${ARGN})
  cmake_path(ABSOLUTE_PATH ARG_SOURCE)
  cmake_path(GET ARG_SOURCE FILENAME name)
  add_custom_command(
    OUTPUT ${ARG_OUT}
    BYPRODUCTS ${ARG_OUT}.ptxas
    COMMAND ${PROJECT_SOURCE_DIR}/cmake/nvcc.sh ${ARG_OUT}.ptxas ${SHOAL_LAUNCHER} ${SHOAL_NVCC}
            ${SHOAL_NVCC_FLAGS} ${ARG_FLAGS} -MD -MF ${ARG_OUT}.d -MT ${ARG_OUT} -o ${ARG_OUT} ${ARG_SOURCE}
    DEPFILE ${ARG_OUT}.d
    DEPENDS ${ARG_SOURCE} ${PROJECT_SOURCE_DIR}/cmake/nvcc.sh
    COMMENT "Compiling ${name} with nvcc"
    VERBATIM)
endfunction()

# shoal_cubin(NAME SOURCE x.cu DEFINES a=b …): machine code of the first architecture, kept in the build
# tree; a target of its own, not part of `all`. For checks that need no GPU.
function(shoal_cubin name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEFINES" ${ARGN})
  list(GET SHOAL_CUDA_ARCHITECTURES 0 arch)
  list(TRANSFORM ARG_DEFINES PREPEND -D)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.cubin)
  shoal_nvcc(SOURCE ${ARG_SOURCE} OUT ${out} FLAGS -arch=sm_${arch} ${ARG_DEFINES} -cubin)
  add_custom_target(${name} DEPENDS ${out})
endfunction()
