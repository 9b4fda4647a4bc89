/** Addresses of a test cluster. Each cluster has a network of its own, so all have the same. */
export const controlPlaneAddress = '10.99.0.1';
export const apiServerUrl: string = `https://${controlPlaneAddress}:6443`;
export const serviceNetwork = '10.96.0.0/16';
/** Of the Service `kubernetes`: the first one of the network. */
export const apiServiceAddress = '10.96.0.1';

export function nodeAddress(index: number): string {
  return `10.99.0.${10 + index}`;
}

export function podNetworkOf(index: number): string {
  return `10.244.${index}.0/24`;
}
