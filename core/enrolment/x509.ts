/** The X.509 library, with the polyfill that it needs loaded first. */
import 'reflect-metadata';

export * from '@peculiar/x509';
