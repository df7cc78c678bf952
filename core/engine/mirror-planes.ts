/** Left becomes right, in place. @param planes [..., side, side] */
export function mirrorPlanes(planes: Float32Array, side: number): void {
  for (let row = 0; row < planes.length; row += side) planes.subarray(row, row + side).reverse();
}
