# SHOAL_CUDA: OFF never looks for nvcc; AUTO uses it if it is there; ON fails without it.
set(SHOAL_CUDA AUTO CACHE STRING "CUDA kernels: AUTO, ON or OFF")
set_property(CACHE SHOAL_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SHOAL_CUDA_ARCHITECTURES 80 CACHE STRING "Compute capabilities to build for, as in 80;90;120")
set(SHOAL_WITH_CUDA OFF)
if(NOT SHOAL_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SHOAL_CUDA is AUTO, ON or OFF, not \"${SHOAL_CUDA}\"")
endif()
if(NOT SHOAL_CUDA STREQUAL OFF)
  find_program(SHOAL_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  if(SHOAL_NVCC)
    set(SHOAL_WITH_CUDA ON)
  elseif(SHOAL_CUDA STREQUAL ON)
    message(FATAL_ERROR "SHOAL_CUDA=ON, but there is no nvcc in PATH, CUDA_HOME/bin or /usr/local/cuda/bin")
  endif()
endif()
# 2810: nvcc takes the assignment of a [[nodiscard]] type for a discarded value.
# Contraction is off as on the host: fused operations are written out. Kernels call constexpr functions of
# base/ (mix64), which must not know CUDA.
set(SHOAL_NVCC_FLAGS -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr -Werror=all-warnings -diag-suppress=2810
    -I${PROJECT_SOURCE_DIR})

# shoal_cubin(NAME SOURCE x.cu DEFINES a=b …): machine code of the first architecture, kept in the build
# tree; a target of its own, not part of `all`. For checks that need no GPU.
function(shoal_cubin name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEFINES" ${ARGN})
  list(GET SHOAL_CUDA_ARCHITECTURES 0 arch)
  list(TRANSFORM ARG_DEFINES PREPEND -D)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.cubin)
  add_custom_command(
    OUTPUT ${out}
    COMMAND ${SHOAL_NVCC} ${SHOAL_NVCC_FLAGS} -arch=sm_${arch} ${ARG_DEFINES} -cubin -MD -MF ${out}.d -MT ${out}
            -o ${out} ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SOURCE}
    DEPFILE ${out}.d
    DEPENDS ${ARG_SOURCE}
    COMMENT "Compiling ${ARG_SOURCE} for sm_${arch}"
    VERBATIM)
  add_custom_target(${name} DEPENDS ${out})
endfunction()
