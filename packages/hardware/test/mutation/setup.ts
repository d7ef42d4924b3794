/** A mutant is dead at its first failure: nobody wants the smallest one. */
import fc from 'fast-check'

fc.configureGlobal({ endOnFailure: true })
