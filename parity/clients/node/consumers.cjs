module.exports = { checks: {} };
