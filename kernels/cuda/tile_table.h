// launch_tiles and launch_put_rows as choices among functions of one type, which may live in other
// translation units (tile_dispatch.h defines them).
#pragma once

#include "kernels/cuda/tile_launch.h"

namespace shoal::gpu {

template <TensorType type, class Arch, class Stream>
Status launch_tiles_of(Stream& stream, TileKernel kernel, uint32_t sets,
                       const TileProductParams& params);
template <TensorType type, class Arch, class Stream>
Status launch_put_rows_of(Stream& stream, const PutRowsParams& params);

template <class Arch, class Stream, TensorType... types>
Status launch_tiles_in(TileTypeList<types...>, Stream& stream, TileKernel kernel, TensorType type,
                       uint32_t sets, const TileProductParams& params) {
  Status status = invalid_argument("a product of a type without tiles");
  ((type == types ? (void)(status = launch_tiles_of<types, Arch>(stream, kernel, sets, params))
                  : (void)0),
   ...);
  return status;
}

template <class Arch, class Stream>
Status launch_tiles(Stream& stream, TileKernel kernel, TensorType type, uint32_t sets,
                    const TileProductParams& params) {
  if (sets == 0 || params.tiles == 0 || params.units == 0) return Status::ok();
  return launch_tiles_in<Arch>(TileTypes{}, stream, kernel, type, sets, params);
}

template <class Arch, class Stream, TensorType... types>
Status launch_put_rows_in(TileTypeList<types...>, Stream& stream, TensorType type,
                          const PutRowsParams& params) {
  Status status = invalid_argument("rows of a type without tiles");
  ((type == types ? (void)(status = launch_put_rows_of<types, Arch>(stream, params)) : (void)0),
   ...);
  return status;
}

template <class Arch, class Stream>
Status launch_put_rows(Stream& stream, TensorType type, const PutRowsParams& params) {
  if (params.count == 0 || params.units == 0) return Status::ok();
  return launch_put_rows_in<Arch>(TileTypes{}, stream, type, params);
}

}  // namespace shoal::gpu
