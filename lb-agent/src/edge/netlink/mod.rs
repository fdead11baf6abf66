//! Links, addresses, routes and neighbours, by subscription.
