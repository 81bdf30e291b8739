// Zapier keeps what the user types here and hands it to every request as bundle.authData.
const config = {
  type: 'custom',
  fields: [
    { key: 'server', label: 'Router', required: true, helpText: 'Where the router answers, such as https://hooks.example.com' },
    { key: 'api_key', label: 'API key', required: true, type: 'password' },
  ],
  // Zapier calls this when the connection is made, and shows the label beside it.
  test: { url: '{{bundle.authData.server}}/api/v1/me' },
  connectionLabel: '{{account}}',
};

const addKey = (request, z, bundle) => {
  if (bundle.authData.api_key) {
    request.headers['X-API-Key'] = bundle.authData.api_key;
  }
  return request;
};

module.exports = { config, addKey };
