/**
 * What poll says: `POLLIN | POLLRDNORM` and `POLLOUT | POLLWRNORM`.
 *
 * @packageDocumentation
 */
export const pollIn = 0x41
export const pollOut = 0x104
