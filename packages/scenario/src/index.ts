/**
 * Whole machines (host, VMs, guests, devices) that can be assembled, acted on and forked.
 *
 * @packageDocumentation
 */
export {}
