/**
 * Real software on both sides of the model.
 *
 * @packageDocumentation
 */
export * from './vfio-user/index.js'
